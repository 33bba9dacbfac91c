-- The control store as it is after all migrations; a test holds the two equal.

CREATE SCHEMA worker_sync_control;

CREATE TABLE worker_sync_control.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who may act for a source. The token rises with every acquisition and never falls, also across releases.
CREATE TABLE worker_sync_control.leases (
    name text PRIMARY KEY,
    holder text,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Whether a pipeline or a source runs, and if not, why not.
CREATE TABLE worker_sync_control.states (
    kind text NOT NULL CHECK (kind IN ('pipeline', 'source')),
    name text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'paused', 'halted')),
    reason text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    recovery text NOT NULL DEFAULT '',
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name)
);

-- What a person asks of a running capture. `request` makes sending idempotent.
CREATE TABLE worker_sync_control.signals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request uuid NOT NULL UNIQUE,
    source text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('snapshot', 'resync', 'pause', 'resume', 'replay', 'release')),
    pipeline text NOT NULL,
    table_name text,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    result text,
    keys jsonb
);

CREATE INDEX signals_pending ON worker_sync_control.signals (source, id) WHERE finished_at IS NULL;

-- Up to where a source is confirmed, where its lanes (pipeline/shard) stand, and the transactions that a snapshot which
-- begins now must see. `spilled`: how far the batches of a lane are on its capture's disk.
CREATE TABLE worker_sync_control.checkpoints (
    source text PRIMARY KEY,
    identity text NOT NULL,
    confirmed text NOT NULL,
    lanes jsonb NOT NULL,
    unseen jsonb NOT NULL DEFAULT '[]',
    token bigint NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    spilled jsonb NOT NULL DEFAULT '{}',
    histories jsonb NOT NULL DEFAULT '{}'
);

-- The latest word of each running process.
CREATE TABLE worker_sync_control.reports (
    process text PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    status jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The latest result of each health check; `ok` NULL means that it could not run. `skew_s`: how far the system's clock is
-- ahead of the worker's that asked; NULL where it was not asked.
CREATE TABLE worker_sync_control.health (
    subject text PRIMARY KEY,
    ok boolean,
    detail text NOT NULL,
    latency_ms double precision,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    skew_s double precision
);

-- The newest heartbeat that was written into each source.
CREATE TABLE worker_sync_control.heartbeats (
    source text PRIMARY KEY,
    position text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The definition of a source table that a pipeline's target has (`version`, NULL: none yet), and the one that follows
-- it: on its way until the pipeline's first shard stands at `place`, or refused where `place` is empty. Changes up to
-- the commit position `since` are older than `version`, whatever their definition says. `partitions`: those with whose
-- rows the target is in step. `absent`: no rule of the pipeline means the table now.
CREATE TABLE worker_sync_control.table_versions (
    pipeline text NOT NULL,
    table_name text NOT NULL,
    version jsonb,
    next jsonb,
    place text NOT NULL DEFAULT '',
    since text NOT NULL DEFAULT '',
    gone boolean NOT NULL DEFAULT false,
    change text NOT NULL DEFAULT '',
    changed_at timestamptz,
    token bigint NOT NULL,
    partitions jsonb,
    absent boolean NOT NULL DEFAULT false,
    PRIMARY KEY (pipeline, table_name)
);

-- Work that failed for good, until a person replays or discards it. One row per `identity`: parking again changes no
-- more than the error. A change that waits for an earlier one of its key says so and has no attempts.
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

-- Which entries the schedule has, and since when with the rhythm that they have now: no earlier time was missed.
CREATE TABLE worker_sync_control.schedule_entries (
    entry text PRIMARY KEY,
    rhythm text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every time at which an entry was due. `token`: of the beat that acts for it; what carries another is not run.
CREATE TABLE worker_sync_control.schedule_runs (
    entry text NOT NULL,
    scheduled_for timestamptz NOT NULL,
    task text NOT NULL,
    by_hand boolean NOT NULL DEFAULT false,
    status text NOT NULL CHECK (status IN ('claimed', 'published', 'finished', 'failed', 'skipped')),
    token bigint NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    finished_at timestamptz,
    error text NOT NULL DEFAULT '',
    PRIMARY KEY (entry, scheduled_for)
);

CREATE INDEX schedule_runs_claimed ON worker_sync_control.schedule_runs (entry, scheduled_for) WHERE status = 'claimed';

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
