-- What beat remembers, and clocks in the health checks.
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

-- How far the system's clock is ahead of the worker's that asked; NULL where it was not asked.
ALTER TABLE worker_sync_control.health ADD COLUMN skew_s double precision;
