-- Work that failed for good, until a person replays or discards it. One row per `identity`: parking again changes no
-- more than the error. A change that waits for an earlier one of its key has that one's error and no attempts.
CREATE TABLE worker_sync_control.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identity text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('change', 'task', 'message')),
    status text NOT NULL DEFAULT 'parked' CHECK (status IN ('parked', 'replayed', 'discarded')),
    queue text NOT NULL DEFAULT '',
    task text NOT NULL DEFAULT '',
    pipeline text NOT NULL DEFAULT '',
    shard integer,
    table_name text NOT NULL DEFAULT '',
    key text NOT NULL DEFAULT '',
    position text NOT NULL DEFAULT '',
    ordinal bigint,
    op text NOT NULL DEFAULT '',
    payload bytea NOT NULL,
    error_type text NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    trace text NOT NULL DEFAULT '',
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    resolved_by text NOT NULL DEFAULT '',
    note text NOT NULL DEFAULT ''
);

CREATE INDEX dead_letters_parked ON worker_sync_control.dead_letters (pipeline, table_name, key, id)
WHERE status = 'parked';
