-- The partitions of a source's table with whose rows the target is in step.
ALTER TABLE worker_sync_control.table_versions ADD COLUMN partitions jsonb;

-- The table is out of its pipeline's configuration, and what happens to it meanwhile is not brought.
ALTER TABLE worker_sync_control.table_versions ADD COLUMN absent boolean NOT NULL DEFAULT false;
