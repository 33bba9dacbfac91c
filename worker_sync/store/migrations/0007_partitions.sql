-- The partitions of a source's table with whose rows the target is in step.
ALTER TABLE worker_sync_control.table_versions ADD COLUMN partitions jsonb;
