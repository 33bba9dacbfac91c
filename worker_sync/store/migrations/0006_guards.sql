-- How far the batches of a lane are on its capture's disk.
ALTER TABLE worker_sync_control.checkpoints ADD COLUMN spilled jsonb NOT NULL DEFAULT '{}';

-- Batches that are too large for the broker, whose messages only name them. Removed once they are applied, or when they are
-- old: a capture sends again what was lost.
CREATE TABLE worker_sync_control.claims (
    pipeline text NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline, name)
);

ALTER TABLE worker_sync_control.claims ALTER COLUMN data SET STORAGE EXTERNAL;
