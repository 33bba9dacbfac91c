-- How far the batches of a lane are on its capture's disk.
ALTER TABLE worker_sync_control.checkpoints ADD COLUMN spilled jsonb NOT NULL DEFAULT '{}';
