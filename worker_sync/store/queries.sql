-- acquire_lease: Take a lease that is free, ours or expired; the token rises.
INSERT INTO worker_sync_control.leases AS held (name, holder, token, expires_at)
VALUES (%(name)s, %(holder)s, %(at_least)s + 1, clock_timestamp() + make_interval(secs => %(ttl_s)s))
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder,
    token = greatest(held.token, %(at_least)s) + 1,
    expires_at = clock_timestamp() + make_interval(secs => %(ttl_s)s)
WHERE held.holder IS NULL OR held.holder = excluded.holder OR held.expires_at <= clock_timestamp()
RETURNING token;

-- renew_lease: Prolong a lease that nobody has taken since, also when it has expired.
UPDATE worker_sync_control.leases
SET expires_at = clock_timestamp() + make_interval(secs => %(ttl_s)s)
WHERE name = %(name)s AND holder = %(holder)s AND token = %(token)s
RETURNING token;

-- release_lease: Let go; the token stays.
UPDATE worker_sync_control.leases SET holder = NULL
WHERE name = %(name)s AND holder = %(holder)s AND token = %(token)s;

-- show_lease: Who holds a lease now.
SELECT name, holder, token, extract(epoch FROM expires_at - clock_timestamp())::float8 AS left_s
FROM worker_sync_control.leases
WHERE name = %(name)s AND holder IS NOT NULL AND expires_at > clock_timestamp();

-- pause: Stop what runs. A halt keeps its reason.
INSERT INTO worker_sync_control.states AS state (kind, name, status, detail)
VALUES (%(kind)s, %(name)s, 'paused', %(detail)s)
ON CONFLICT (kind, name) DO UPDATE
SET status = 'paused', reason = '', detail = excluded.detail, recovery = '', since = clock_timestamp()
WHERE state.status = 'running';

-- resume: Let it run again, whatever had stopped it.
INSERT INTO worker_sync_control.states AS state (kind, name, status)
VALUES (%(kind)s, %(name)s, 'running')
ON CONFLICT (kind, name) DO UPDATE
SET status = 'running', reason = '', detail = '', recovery = '', since = clock_timestamp()
WHERE state.status <> 'running';

-- halt: Stop with a named reason. The first halt is the cause, so later ones don't replace it.
INSERT INTO worker_sync_control.states AS state (kind, name, status, reason, detail, recovery)
VALUES (%(kind)s, %(name)s, 'halted', %(reason)s, %(detail)s, %(recovery)s)
ON CONFLICT (kind, name) DO UPDATE
SET status = 'halted', reason = excluded.reason, detail = excluded.detail, recovery = excluded.recovery,
    since = clock_timestamp()
WHERE state.status <> 'halted';

-- get_state: One state.
SELECT name, status, reason, detail, recovery, since FROM worker_sync_control.states
WHERE kind = %(kind)s AND name = %(name)s;

-- all_states: Every state that was ever set.
SELECT name, status, reason, detail, recovery, since FROM worker_sync_control.states
WHERE kind = %(kind)s ORDER BY name;

-- send_signal: Ask something of a capture; the same request twice is one signal.
INSERT INTO worker_sync_control.signals (request, source, kind, pipeline, table_name, keys)
VALUES (%(request)s, %(source)s, %(kind)s, %(pipeline)s, %(table)s, %(keys)s)
ON CONFLICT (request) DO UPDATE SET request = excluded.request
RETURNING id;

-- pending_signals: What a capture has not done yet, oldest first.
SELECT id, source, kind, pipeline, table_name AS "table", keys, sent_at, started_at, finished_at, result
FROM worker_sync_control.signals
WHERE source = %(source)s AND finished_at IS NULL ORDER BY id;

-- get_signal: One signal with its result.
SELECT id, source, kind, pipeline, table_name AS "table", keys, sent_at, started_at, finished_at, result
FROM worker_sync_control.signals WHERE id = %(id)s;

-- start_signal: The capture has begun; after a restart it goes on instead of beginning anew.
UPDATE worker_sync_control.signals SET started_at = clock_timestamp() WHERE id = %(id)s AND started_at IS NULL;

-- finish_signal: Record what came of a signal; the first result stands.
UPDATE worker_sync_control.signals SET finished_at = clock_timestamp(), result = %(result)s
WHERE id = %(id)s AND finished_at IS NULL;

-- save_checkpoint: Keep the newest checkpoint of the newest holder.
INSERT INTO worker_sync_control.checkpoints AS kept
    (source, identity, confirmed, lanes, unseen, spilled, histories, token)
VALUES (%(source)s, %(identity)s, %(confirmed)s, %(lanes)s, %(unseen)s, %(spilled)s, %(histories)s, %(token)s)
ON CONFLICT (source) DO UPDATE
SET identity = excluded.identity, confirmed = excluded.confirmed, lanes = excluded.lanes, unseen = excluded.unseen,
    spilled = excluded.spilled, histories = excluded.histories, token = excluded.token, saved_at = clock_timestamp()
WHERE kept.token <= excluded.token
RETURNING token;

-- load_checkpoint: The checkpoint of a source.
SELECT source, identity, confirmed, lanes, unseen, spilled, histories, token,
    extract(epoch FROM clock_timestamp() - saved_at)::float8 AS age_s
FROM worker_sync_control.checkpoints WHERE source = %(source)s;

-- save_table_version: Replace what is known of a pipeline's table, unless a newer capture has.
INSERT INTO worker_sync_control.table_versions AS kept
    (pipeline, table_name, version, next, place, since, gone, change, changed_at, token, partitions, absent)
VALUES (%(pipeline)s, %(table)s, %(version)s, %(next)s, %(place)s, %(since)s, %(gone)s, %(change)s,
    CASE WHEN %(change)s <> '' THEN clock_timestamp() END, %(token)s, %(partitions)s, %(absent)s)
ON CONFLICT (pipeline, table_name) DO UPDATE
SET version = excluded.version, next = excluded.next, place = excluded.place, since = excluded.since,
    gone = excluded.gone, change = excluded.change, token = excluded.token, partitions = excluded.partitions,
    absent = excluded.absent,
    changed_at = CASE WHEN excluded.change = kept.change AND excluded.place = kept.place
        THEN kept.changed_at ELSE excluded.changed_at END
WHERE kept.token <= excluded.token
RETURNING token;

-- table_versions: What is known of a pipeline's tables.
SELECT table_name, version, next, place, since, gone, change, changed_at, partitions, absent
FROM worker_sync_control.table_versions WHERE pipeline = %(pipeline)s ORDER BY table_name;

-- put_report: Replace the latest word of a process.
INSERT INTO worker_sync_control.reports (process, kind, subject, status)
VALUES (%(process)s, %(kind)s, %(subject)s, %(status)s)
ON CONFLICT (process) DO UPDATE
SET kind = excluded.kind, subject = excluded.subject, status = excluded.status, updated_at = clock_timestamp();

-- all_reports: The latest word of every process, newest first.
SELECT process, kind, subject, status, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS age_s
FROM worker_sync_control.reports
WHERE %(kind)s::text IS NULL OR kind = %(kind)s ORDER BY updated_at DESC, process;

-- remove_report: A process has ended.
DELETE FROM worker_sync_control.reports WHERE process = %(process)s;

-- forget_reports: Remove the reports of processes that have long been silent.
DELETE FROM worker_sync_control.reports
WHERE updated_at < clock_timestamp() - make_interval(secs => %(older_than_s)s) RETURNING process;

-- put_health: Replace the latest result of a health check.
INSERT INTO worker_sync_control.health (subject, ok, detail, latency_ms, skew_s)
VALUES (%(subject)s, %(ok)s, %(detail)s, %(latency_ms)s, %(skew_s)s)
ON CONFLICT (subject) DO UPDATE
SET ok = excluded.ok, detail = excluded.detail, latency_ms = excluded.latency_ms, checked_at = clock_timestamp(),
    skew_s = excluded.skew_s;

-- all_health: The latest result of every health check.
SELECT subject, ok, detail, latency_ms, skew_s, extract(epoch FROM clock_timestamp() - checked_at)::float8 AS age_s
FROM worker_sync_control.health ORDER BY subject;

-- put_heartbeat: A heartbeat was written into a source.
INSERT INTO worker_sync_control.heartbeats (source, position) VALUES (%(source)s, %(position)s)
ON CONFLICT (source) DO UPDATE SET position = excluded.position, sent_at = clock_timestamp();

-- all_heartbeats: The newest heartbeat of every source.
SELECT source, position, extract(epoch FROM clock_timestamp() - sent_at)::float8 AS age_s
FROM worker_sync_control.heartbeats ORDER BY source;

-- ping: Does it answer.
SELECT 1 AS answer;

-- now: The store's clock.
SELECT clock_timestamp() AS now;

-- lock_migrations: One migration at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(5711092041331);

-- create_migrations: The table that says which migrations were applied.
CREATE SCHEMA IF NOT EXISTS worker_sync_control;
CREATE TABLE IF NOT EXISTS worker_sync_control.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- has_migrations: Whether there is a control store at all.
SELECT to_regclass('worker_sync_control.migrations') IS NOT NULL AS present;

-- applied_migrations: The migrations that were applied.
SELECT number, name FROM worker_sync_control.migrations ORDER BY number;

-- record_migration: One more was applied.
INSERT INTO worker_sync_control.migrations (number, name) VALUES (%(number)s, %(name)s);

-- park: Keep work that failed for good. What stands there already keeps its place; what a person has decided stays decided.
INSERT INTO worker_sync_control.dead_letters AS letter
    (identity, kind, queue, task, pipeline, shard, table_name, key, position, ordinal, op, payload, error_type, error,
     attempts, trace)
VALUES (%(identity)s, %(kind)s, %(queue)s, %(task)s, %(pipeline)s, %(shard)s, %(table)s, %(key)s, %(position)s,
    %(ordinal)s, %(op)s, %(payload)s, %(error_type)s, %(error)s, %(attempts)s, %(trace)s)
ON CONFLICT (identity) DO UPDATE
SET error_type = excluded.error_type, error = excluded.error, attempts = letter.attempts + excluded.attempts,
    failed_at = clock_timestamp()
WHERE letter.status = 'parked';

-- repeat_letter: What a parked letter holds has failed again in another message. Returns the letter.
UPDATE worker_sync_control.dead_letters AS letter
SET error_type = %(error_type)s, error = %(error)s, attempts = letter.attempts + %(attempts)s, trace = %(trace)s,
    failed_at = clock_timestamp()
WHERE id = (
    SELECT min(id) FROM worker_sync_control.dead_letters
    WHERE status = 'parked' AND kind = 'task' AND task = %(task)s AND payload = %(payload)s
        AND identity <> %(identity)s
)
RETURNING id;

-- refuse_letters: A replay of these keys was refused again. Returns the keys that have a letter.
UPDATE worker_sync_control.dead_letters AS letter
SET error_type = %(error_type)s, error = %(error)s, attempts = letter.attempts + 1, failed_at = clock_timestamp()
WHERE status = 'parked' AND kind = 'change' AND pipeline = %(pipeline)s AND table_name = %(table)s AND key = %(key)s
RETURNING id;

-- count_changes: How many changes of a pipeline are parked.
SELECT count(*) AS letters FROM worker_sync_control.dead_letters
WHERE status = 'parked' AND kind = 'change' AND pipeline = %(pipeline)s;

-- parked_changes: Where the parked changes of a pipeline stand, oldest first.
SELECT id, shard, table_name AS table, key, position FROM worker_sync_control.dead_letters
WHERE status = 'parked' AND kind = 'change' AND pipeline = %(pipeline)s AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- find_letters: Dead letters, oldest first. An empty filter takes all.
SELECT id, identity, kind, status, queue, task, pipeline, shard, table_name AS table, key, position, ordinal, op, error_type,
    error, attempts, trace, parked_at, failed_at, resolved_at, resolved_by, note
FROM worker_sync_control.dead_letters
WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(pipeline)s::text IS NULL OR pipeline = %(pipeline)s)
    AND (%(table)s::text IS NULL OR table_name = %(table)s)
    AND (%(key)s::text IS NULL OR key = %(key)s)
    AND (%(task)s::text IS NULL OR task = %(task)s)
    AND (%(parked_after)s::timestamptz IS NULL OR parked_at > %(parked_after)s)
    AND id > %(after)s
ORDER BY id LIMIT %(limit)s;

-- letter_payload: What failed, as bytes.
SELECT payload FROM worker_sync_control.dead_letters WHERE id = %(id)s;

-- resolve_letters: A person's decision about parked letters, or its outcome. What is resolved stays so.
UPDATE worker_sync_control.dead_letters
SET status = %(status)s, resolved_at = clock_timestamp(), resolved_by = %(by)s, note = %(note)s
WHERE id = ANY(%(ids)s::bigint[]) AND status = 'parked'
RETURNING id;

-- discard_letters: Give parked letters up and ask their captures to let the keys through, both or neither.
WITH taken AS (
    UPDATE worker_sync_control.dead_letters
    SET status = 'discarded', resolved_at = clock_timestamp(), resolved_by = %(by)s, note = %(note)s
    WHERE id = ANY(%(ids)s::bigint[]) AND status = 'parked'
    RETURNING id, kind, pipeline, table_name, key
), asked AS (
    INSERT INTO worker_sync_control.signals (request, source, kind, pipeline, table_name, keys)
    SELECT gen_random_uuid(), %(sources)s::jsonb ->> pipeline, 'release', pipeline, table_name, jsonb_agg(DISTINCT key)
    FROM taken WHERE kind = 'change' AND %(sources)s::jsonb ? pipeline
    GROUP BY pipeline, table_name
    RETURNING id, pipeline, table_name
)
SELECT taken.id, asked.id AS signal
FROM taken LEFT JOIN asked ON taken.kind = 'change' AND (asked.pipeline, asked.table_name) = (taken.pipeline, taken.table_name)
ORDER BY taken.id;

-- count_letters: How many parked letters there are of each kind, and how long the oldest has been there.
SELECT kind, pipeline, task, count(*) AS letters,
    extract(epoch FROM clock_timestamp() - min(parked_at))::float8 AS oldest_s
FROM worker_sync_control.dead_letters WHERE status = 'parked'
GROUP BY kind, pipeline, task ORDER BY kind, pipeline, task;

-- purge_letters: Remove what was resolved so long ago.
DELETE FROM worker_sync_control.dead_letters WHERE id IN (
    SELECT id FROM worker_sync_control.dead_letters
    WHERE status <> 'parked' AND resolved_at < clock_timestamp() - make_interval(secs => %(older_than_s)s)
    ORDER BY id LIMIT %(limit)s
)
RETURNING id;

-- register_entry: An entry has this rhythm; if it had another, no time before now was missed.
INSERT INTO worker_sync_control.schedule_entries AS known (entry, rhythm)
SELECT %(entry)s, %(rhythm)s FROM worker_sync_control.leases
WHERE name = %(lease)s AND token = %(token)s AND holder IS NOT NULL AND expires_at > clock_timestamp()
FOR SHARE
ON CONFLICT (entry) DO UPDATE SET rhythm = excluded.rhythm, since = clock_timestamp()
WHERE known.rhythm <> excluded.rhythm;

-- forget_entries: Entries that the schedule has no more: when they come back, nothing was missed meanwhile.
DELETE FROM worker_sync_control.schedule_entries WHERE NOT entry = ANY(%(entries)s::text[])
    AND EXISTS (SELECT 1 FROM worker_sync_control.leases
WHERE name = %(lease)s AND token = %(token)s AND holder IS NOT NULL AND expires_at > clock_timestamp()
FOR SHARE);

-- accounted: Up to which time nothing of each entry can have been missed.
SELECT entry, greatest(since, (
    SELECT run.scheduled_for FROM worker_sync_control.schedule_runs AS run
    WHERE run.entry = known.entry AND NOT run.by_hand ORDER BY run.scheduled_for DESC LIMIT 1
)) AS accounted
FROM worker_sync_control.schedule_entries AS known;

-- claim_run: The right to fire an entry for one time, given once and only to who holds the lease. What is still to be
-- sent for an earlier time is skipped.
WITH leader AS (
    SELECT token FROM worker_sync_control.leases
WHERE name = %(lease)s AND token = %(token)s AND holder IS NOT NULL AND expires_at > clock_timestamp()
FOR SHARE
), superseded AS (
    UPDATE worker_sync_control.schedule_runs AS run SET status = 'skipped', error = 'a later time came before it was sent'
    FROM leader
    WHERE run.entry = %(entry)s AND run.status = 'claimed' AND NOT run.by_hand
        AND run.scheduled_for < %(scheduled_for)s
)
INSERT INTO worker_sync_control.schedule_runs (entry, scheduled_for, task, status, token)
SELECT %(entry)s, %(scheduled_for)s, %(task)s, 'claimed', token FROM leader
ON CONFLICT (entry, scheduled_for) DO NOTHING
RETURNING entry;

-- claim_by_hand: A person wants an entry to run now, whoever leads. The beat takes over what was not sent.
INSERT INTO worker_sync_control.schedule_runs (entry, scheduled_for, task, by_hand, status, token)
VALUES (%(entry)s, clock_timestamp(), %(task)s, true, 'claimed', 0)
RETURNING entry, scheduled_for, task, token;

-- skip_runs: Times that passed while nobody fired.
INSERT INTO worker_sync_control.schedule_runs (entry, scheduled_for, task, status, token, error)
SELECT %(entry)s, missed, %(task)s, 'skipped', %(token)s, 'missed; a later time was caught up'
FROM unnest(%(times)s::timestamptz[]) AS missed
WHERE EXISTS (SELECT 1 FROM worker_sync_control.leases
WHERE name = %(lease)s AND token = %(token)s AND holder IS NOT NULL AND expires_at > clock_timestamp()
FOR SHARE)
ON CONFLICT (entry, scheduled_for) DO NOTHING;

-- take_claims: What others claimed and did not say to have sent is sent by who holds the lease now. A person's command
-- gets a minute to do it itself.
UPDATE worker_sync_control.schedule_runs SET token = %(token)s
WHERE status = 'claimed' AND token <> %(token)s
    AND (NOT by_hand OR claimed_at < clock_timestamp() - interval '1 minute')
    AND EXISTS (SELECT 1 FROM worker_sync_control.leases
WHERE name = %(lease)s AND token = %(token)s AND holder IS NOT NULL AND expires_at > clock_timestamp()
FOR SHARE)
RETURNING entry;

-- claimed_runs: What is to be sent, oldest first.
SELECT entry, scheduled_for, task, token FROM worker_sync_control.schedule_runs
WHERE status = 'claimed' AND token = %(token)s ORDER BY scheduled_for, entry;

-- run_published: The broker has it. A worker may have been quicker.
UPDATE worker_sync_control.schedule_runs
SET published_at = clock_timestamp(), status = CASE status WHEN 'claimed' THEN 'published' ELSE status END
WHERE entry = %(entry)s AND scheduled_for = %(scheduled_for)s AND token = %(token)s;

-- end_run: What came of a run; the first word stands.
UPDATE worker_sync_control.schedule_runs
SET status = %(status)s, error = %(error)s, finished_at = clock_timestamp()
WHERE entry = %(entry)s AND scheduled_for = %(scheduled_for)s AND token = %(token)s AND status IN ('claimed', 'published');

-- get_run: One run.
SELECT entry, scheduled_for, task, by_hand, status, token, published_at, finished_at, error
FROM worker_sync_control.schedule_runs WHERE entry = %(entry)s AND scheduled_for = %(scheduled_for)s;

-- runs_of: The runs of an entry, newest first.
SELECT entry, scheduled_for, task, by_hand, status, token, published_at, finished_at, error
FROM worker_sync_control.schedule_runs WHERE entry = %(entry)s ORDER BY scheduled_for DESC LIMIT %(limit)s;

-- last_ended_runs: Of every entry of the schedule the newest run that has ended.
SELECT known.entry, run.status, extract(epoch FROM clock_timestamp() - run.finished_at)::float8 AS age_s
FROM worker_sync_control.schedule_entries AS known
CROSS JOIN LATERAL (
    SELECT status, finished_at FROM worker_sync_control.schedule_runs AS run
    WHERE run.entry = known.entry AND status IN ('finished', 'failed') ORDER BY scheduled_for DESC LIMIT 1
) AS run ORDER BY known.entry;

-- runs_within: The runs of an entry that were due within a time, oldest first.
SELECT entry, scheduled_for, task, by_hand, status, token, published_at, finished_at, error
FROM worker_sync_control.schedule_runs
WHERE entry = %(entry)s AND scheduled_for >= %(since)s AND scheduled_for < %(until)s ORDER BY scheduled_for;

-- oldest_run: When the oldest run of an entry was due that is still kept.
SELECT min(scheduled_for) AS scheduled_for FROM worker_sync_control.schedule_runs WHERE entry = %(entry)s;

-- purge_runs: Remove what is too old or too much. The newest of an entry stays: it says what was not missed.
DELETE FROM worker_sync_control.schedule_runs AS run USING (
    SELECT entry, scheduled_for, row_number() OVER (PARTITION BY entry, by_hand ORDER BY scheduled_for DESC) AS place
    FROM worker_sync_control.schedule_runs
) AS placed
WHERE run.entry = placed.entry AND run.scheduled_for = placed.scheduled_for AND run.status <> 'claimed'
    AND placed.place > 1
    AND (placed.place > %(most)s OR run.scheduled_for < clock_timestamp() - make_interval(secs => %(older_than_s)s))
RETURNING run.entry;

-- put_claim: Keep a batch that is too large for the broker; the same again only makes it younger.
INSERT INTO worker_sync_control.claims (pipeline, name, data) VALUES (%(pipeline)s, %(name)s, %(data)b)
ON CONFLICT (pipeline, name) DO UPDATE SET stored_at = clock_timestamp();

-- get_claim: The batch that a message names.
SELECT data FROM worker_sync_control.claims WHERE pipeline = %(pipeline)s AND name = %(name)s;

-- remove_claim: The batch is applied.
DELETE FROM worker_sync_control.claims WHERE pipeline = %(pipeline)s AND name = %(name)s;

-- forget_claims: Remove what nobody has come for.
DELETE FROM worker_sync_control.claims
WHERE stored_at < clock_timestamp() - make_interval(secs => %(older_than_s)s) RETURNING name;
