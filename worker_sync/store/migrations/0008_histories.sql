-- Which history of the source's log a position is of: what is confirmed, and each pipeline's.
ALTER TABLE worker_sync_control.checkpoints ADD COLUMN histories jsonb NOT NULL DEFAULT '{}';
