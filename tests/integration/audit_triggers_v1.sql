-- What audit triggers need in a source database. Run by `worker-sync audit triggers install`, again after an upgrade.
-- Functions have the settings of Worker-Sync's own connections, so that values are printed as the log would print them.

CREATE SCHEMA IF NOT EXISTS worker_sync_audit;
REVOKE ALL ON SCHEMA worker_sync_audit FROM PUBLIC;

-- `id` tells this installation from any other, so that positions are never compared with those of another one. While it is
-- `removing`, tables are without triggers on purpose, and what was recorded is still read.
CREATE TABLE IF NOT EXISTS worker_sync_audit.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    version int NOT NULL,
    removing boolean NOT NULL DEFAULT false
);

-- The columns that a table had when changes of it were recorded, in the order of its rows. `root` is the partitioned
-- table that it belongs to, or itself, and `root_names` are the columns of that one, in its order. `columns` is all that
-- matters of them in one text, made anew for every change. Two rows may say the same: writers that meet a new definition at once don't wait for each other.
CREATE TABLE IF NOT EXISTS worker_sync_audit.layouts (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation oid NOT NULL,
    root oid NOT NULL,
    columns text NOT NULL,
    names name[] NOT NULL,
    types oid[] NOT NULL,
    modifiers int[] NOT NULL,
    generated text[] NOT NULL,
    root_names name[] NOT NULL
);
CREATE INDEX IF NOT EXISTS layouts_relation ON worker_sync_audit.layouts (relation);

-- `op`: c, u, d, t as in the capture, and m for a message of Worker-Sync's own (prefix in `context`, content in `new`,
-- in hex). Rows stand in `old` and `new` as PostgreSQL prints a whole row. `id` says what was recorded first; which
-- transaction committed first it does not.
CREATE TABLE IF NOT EXISTS worker_sync_audit.changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    op "char" NOT NULL,
    layout int,
    context text,
    old text,
    new text,
    PRIMARY KEY (xid, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 10000);

-- The capture that reads the changes: of which tables, up to where windows have been cut, and up to where they are
-- recorded.
CREATE TABLE IF NOT EXISTS worker_sync_audit.stream (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL,
    relations oid[] NOT NULL,
    namespaces name[] NOT NULL,
    names name[] NOT NULL,
    snapshot pg_snapshot NOT NULL,
    number bigint NOT NULL,
    head text NOT NULL,
    confirmed text NOT NULL
) WITH (fillfactor = 50);

-- Transactions in the order in which they are recorded.
CREATE TABLE IF NOT EXISTS worker_sync_audit.windows (
    number bigint PRIMARY KEY,
    xids xid8[] NOT NULL,
    counts bigint[] NOT NULL,
    sizes bigint[] NOT NULL,
    times bigint[] NOT NULL,
    bytes bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Writes a change down. Whose trigger calls it needs no right to anything here. Planned once in a session: a plan for each
-- call takes three times as long as the call.
CREATE OR REPLACE FUNCTION worker_sync_audit.record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog
SET plan_cache_mode = force_generic_plan
SET "DateStyle" = 'ISO'
SET "IntervalStyle" = 'iso_8601'
SET "TimeZone" = 'UTC'
SET "extra_float_digits" = '3'
SET "bytea_output" = 'hex'
SET "lc_monetary" = 'C'
SET "array_nulls" = 'on'
AS $function$
DECLARE
    of_root oid := coalesce(pg_partition_root(TG_RELID)::oid, TG_RELID);
    before text;
    after text;
    made bigint;
    known int;
BEGIN
    IF TG_OP = 'UPDATE' OR TG_OP = 'DELETE' THEN before := OLD::text; END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' THEN after := NEW::text; END IF;
    INSERT INTO worker_sync_audit.changes (op, layout, context, old, new)
    VALUES (
        CASE TG_OP WHEN 'INSERT' THEN 'c' WHEN 'UPDATE' THEN 'u' WHEN 'DELETE' THEN 'd' ELSE 't' END,
        (SELECT l.id
         FROM worker_sync_audit.layouts l
         WHERE l.relation = TG_RELID AND l.root = of_root AND l.columns = (
    SELECT string_agg(atttypid::text || ',' || atttypmod::text || ',' || attgenerated::text || ','
                      || length(attname::text)::text || ',' || attname::text, ';' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped)
         LIMIT 1),
        nullif(current_setting('worker_sync.context', true), ''), before, after)
    RETURNING id, layout INTO made, known;
    IF known IS NULL THEN
        INSERT INTO worker_sync_audit.layouts (relation, root, columns, names, types, modifiers, generated, root_names)
        SELECT TG_RELID, of_root, coalesce((
    SELECT string_agg(atttypid::text || ',' || atttypmod::text || ',' || attgenerated::text || ','
                      || length(attname::text)::text || ',' || attname::text, ';' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped), ''), coalesce(array_agg(a.attname ORDER BY a.attnum), '{}'),
               coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}'),
               coalesce(array_agg(a.atttypmod ORDER BY a.attnum), '{}'),
               coalesce(array_agg(a.attgenerated::text ORDER BY a.attnum), '{}'),
               ARRAY(SELECT r.attname FROM pg_attribute r
                     WHERE r.attrelid = of_root AND r.attnum > 0 AND NOT r.attisdropped ORDER BY r.attnum)
        FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped
        RETURNING id INTO known;
        UPDATE worker_sync_audit.changes SET layout = known WHERE xid = pg_current_xact_id() AND id = made;
    END IF;
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION worker_sync_audit.record() FROM PUBLIC;

-- Puts what has committed since the last window into windows, and returns the newest position; NULL without a stream.
-- A window holds the transactions that one snapshot sees and the one before did not, so it never parts what one of them
-- saw of another: whoever waited for a transaction, or read what it wrote, ended later, and is in the same window or in
-- a later one. In one window the last change decides: it is later than all that its transaction had waited for.
CREATE OR REPLACE FUNCTION worker_sync_audit.cut() RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog
SET enable_seqscan = off
SET jit = off
AS $function$
DECLARE
    seen pg_snapshot;
    newest text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'windows are cut in transactions of their own, READ COMMITTED';
    END IF;
    -- One at a time, each statement behind this with a newer snapshot than all windows before.
    PERFORM pg_advisory_xact_lock(2004042068, 2);
    SELECT snapshot, head INTO seen, newest FROM worker_sync_audit.stream;
    IF NOT FOUND THEN RETURN NULL; END IF;
    WITH found AS MATERIALIZED (
        -- Exactly what `seen` does not see. Of what it saw running, each is looked up: a transaction that is open for
        -- hours makes nobody read everything that began since.
        SELECT c.xid, max(c.id) AS last, count(*) AS count, max(c.at) AS at,
               sum(coalesce(octet_length(c.old), 0) + coalesce(octet_length(c.new), 0) + 64) AS size
        FROM worker_sync_audit.changes c WHERE c.xid >= pg_snapshot_xmax(seen) GROUP BY c.xid
      UNION ALL
        SELECT c.xid, max(c.id), count(*), max(c.at),
               sum(coalesce(octet_length(c.old), 0) + coalesce(octet_length(c.new), 0) + 64)
        FROM worker_sync_audit.changes c WHERE c.xid = ANY (ARRAY(SELECT pg_snapshot_xip(seen))) GROUP BY c.xid
    ), timed AS (
        SELECT found.*, CASE WHEN current_setting('track_commit_timestamp') = 'on'
                             THEN coalesce(pg_xact_commit_timestamp(found.xid::xid), found.at) ELSE found.at END AS ended
        FROM found
    ), numbered AS (
        SELECT timed.*, (row_number() OVER (ORDER BY last) - 1) / 1000 AS part FROM timed
    ), made AS (
        INSERT INTO worker_sync_audit.windows (number, xids, counts, sizes, times, bytes)
        SELECT s.number + 1 + n.part, array_agg(n.xid ORDER BY n.last), array_agg(n.count ORDER BY n.last),
               array_agg(n.size::bigint ORDER BY n.last),
               array_agg((extract(epoch FROM n.ended) * 1000000)::bigint ORDER BY n.last), sum(n.size)::bigint
        FROM numbered n, worker_sync_audit.stream s GROUP BY s.number, n.part
        RETURNING number, cardinality(xids) AS held
    ), final AS (
        SELECT number, lpad(to_hex(number), 16, '0') || lpad(to_hex(held), 8, '0') AS head
        FROM made ORDER BY number DESC LIMIT 1
    )
    UPDATE worker_sync_audit.stream s SET number = f.number, head = f.head, snapshot = pg_current_snapshot()
    FROM final f RETURNING s.head INTO newest;
    IF newest IS NULL THEN SELECT head INTO newest FROM worker_sync_audit.stream; END IF;
    RETURN newest;
END
$function$;
REVOKE ALL ON FUNCTION worker_sync_audit.cut() FROM PUBLIC;

INSERT INTO worker_sync_audit.installation (version) VALUES (1)
ON CONFLICT (one) DO UPDATE SET version = excluded.version, removing = false;
