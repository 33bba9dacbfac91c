-- The ledger: one tree of entries that only grows. docs/reference/ledger-format.md says what is hashed and signed.
-- connectors/ledger/schema.py runs this once, gives it to its owner and grants what a writer needs.
CREATE SCHEMA IF NOT EXISTS worker_sync_ledger;

-- The sequencer's state. Whoever locks this row appends; RFC 6962 roots of the complete subtrees, largest first;
-- `recorded_at` is that of the last entry. The free space keeps the row's versions on its page.
CREATE TABLE worker_sync_ledger.head (
    "only"      boolean     PRIMARY KEY DEFAULT true CHECK ("only"),
    size        bigint      NOT NULL CHECK (size >= 0),
    roots       bytea       NOT NULL CHECK (length(roots) = 32 * bit_count(size::bit(64))),
    recorded_at timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO worker_sync_ledger.head (size, roots) VALUES (0, '');

-- `entry` holds the canonical bytes. The other columns repeat what stands in it, to be searched; verification compares.
-- One partition a month, made by ensure_partitions().
CREATE TABLE worker_sync_ledger.entries (
    number       bigint      NOT NULL,
    recorded_at  timestamptz NOT NULL,
    kind         text        NOT NULL,
    source       text,
    table_name   text,
    operation    text,
    key          text,
    transaction  text,
    committed_at timestamptz,
    actor        text,
    leaf         bytea       NOT NULL CHECK (length(leaf) = 32),
    entry        text        NOT NULL,
    PRIMARY KEY (number, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX entries_of_row ON worker_sync_ledger.entries (source, table_name, key, number);
CREATE INDEX entries_by_commit ON worker_sync_ledger.entries (committed_at, number);
CREATE INDEX entries_by_transaction ON worker_sync_ledger.entries (transaction, number);
CREATE INDEX entries_by_actor ON worker_sync_ledger.entries (actor, number) WHERE actor IS NOT NULL;
CREATE INDEX entries_of_kind ON worker_sync_ledger.entries (kind, number) WHERE kind <> 'change';

-- Roots of complete subtrees at levels 8, 16, ...: proofs read these instead of all leaves.
CREATE TABLE worker_sync_ledger.subtrees (
    level smallint NOT NULL,
    index bigint   NOT NULL,
    hash  bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, index)
);

-- Signed notes (c2sp.org/tlog-checkpoint).
CREATE TABLE worker_sync_ledger.checkpoints (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size      bigint      NOT NULL,
    signed_at timestamptz NOT NULL,
    note      text        NOT NULL
);
CREATE INDEX checkpoints_by_size ON worker_sync_ledger.checkpoints (size);

-- Key slots: the ledger's one master, wrapped for each ledger.personal_key that opens it. The first slot comes with the
-- master and there is one such, whoever comes at the same time. A slot is removed once, and the last one never.
CREATE TABLE worker_sync_ledger.personal_keys (
    slot           text        PRIMARY KEY,
    is_first       boolean     NOT NULL,
    wrapped_master bytea,
    added_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    removed_at     timestamptz,
    CHECK ((wrapped_master IS NULL) = (removed_at IS NOT NULL))
);
CREATE UNIQUE INDEX personal_keys_first ON worker_sync_ledger.personal_keys (is_first) WHERE is_first;

-- Keys of those whose personal data is in entries, each wrapped with a key of the master; `id` is a keyed index of whom it
-- is of. To forget somebody, the wrapped key goes; whoever comes back after that is another generation.
CREATE TABLE worker_sync_ledger.subjects (
    id           text        NOT NULL,
    generation   int         NOT NULL CHECK (generation > 0),
    wrapped_key  bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    forgotten_at timestamptz,
    PRIMARY KEY (id, generation),
    CHECK ((wrapped_key IS NULL) = (forgotten_at IS NOT NULL))
);

-- Which entries hold data of whom.
CREATE TABLE worker_sync_ledger.subject_entries (
    subject    text   NOT NULL,
    number     bigint NOT NULL,
    generation int    NOT NULL,
    PRIMARY KEY (subject, number)
);

-- Nothing that stands here changes. Triggers for statements fire also where no row is met; ENABLE ALWAYS makes them
-- fire under session_replication_role = replica. Only who owns a table can take them away, or drop it.
CREATE FUNCTION worker_sync_ledger.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the ledger only grows: % of %.% is refused', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION worker_sync_ledger.only_grow() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.size < OLD.size OR NEW.recorded_at < OLD.recorded_at OR (NEW.size = OLD.size AND NEW.roots <> OLD.roots) THEN
        RAISE EXCEPTION 'the ledger only grows: its head stays behind entry %', OLD.size
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION worker_sync_ledger.only_forget() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.generation, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.generation, OLD.created_at)
       OR OLD.wrapped_key IS NULL OR NEW.wrapped_key IS NOT NULL THEN
        RAISE EXCEPTION 'the ledger only grows: a key of a subject can be destroyed and not be changed'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

-- One removal at a time. Before the statement: later it would hold its row, and two would wait for each other.
CREATE FUNCTION worker_sync_ledger.remove_in_turn() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1462979184);
    RETURN NULL;
END
$$;

CREATE FUNCTION worker_sync_ledger.only_remove() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.slot, NEW.is_first, NEW.added_at) IS DISTINCT FROM (OLD.slot, OLD.is_first, OLD.added_at)
       OR OLD.wrapped_master IS NULL OR NEW.wrapped_master IS NOT NULL THEN
        RAISE EXCEPTION 'the ledger only grows: a key slot can be removed and not be changed'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Locked: a transaction that sees an old snapshot fails here instead of relying on a slot that is gone.
    PERFORM FROM worker_sync_ledger.personal_keys WHERE slot <> OLD.slot AND wrapped_master IS NOT NULL LIMIT 1 FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the last key slot of a ledger can not be removed: nothing personal in it could be read any more'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON worker_sync_ledger.entries
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.entries ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON worker_sync_ledger.subtrees
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.subtrees ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON worker_sync_ledger.checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.checkpoints ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse BEFORE DELETE OR TRUNCATE ON worker_sync_ledger.head
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.head ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON worker_sync_ledger.subject_entries
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.subject_entries ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER refuse BEFORE DELETE OR TRUNCATE ON worker_sync_ledger.personal_keys
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.personal_keys ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER remove_in_turn BEFORE UPDATE ON worker_sync_ledger.personal_keys
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.remove_in_turn();
ALTER TABLE worker_sync_ledger.personal_keys ENABLE ALWAYS TRIGGER remove_in_turn;
CREATE TRIGGER only_remove BEFORE UPDATE ON worker_sync_ledger.personal_keys
    FOR EACH ROW EXECUTE FUNCTION worker_sync_ledger.only_remove();
ALTER TABLE worker_sync_ledger.personal_keys ENABLE ALWAYS TRIGGER only_remove;
CREATE TRIGGER refuse BEFORE DELETE OR TRUNCATE ON worker_sync_ledger.subjects
    FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse();
ALTER TABLE worker_sync_ledger.subjects ENABLE ALWAYS TRIGGER refuse;
CREATE TRIGGER only_forget BEFORE UPDATE ON worker_sync_ledger.subjects
    FOR EACH ROW EXECUTE FUNCTION worker_sync_ledger.only_forget();
ALTER TABLE worker_sync_ledger.subjects ENABLE ALWAYS TRIGGER only_forget;
CREATE TRIGGER only_grow BEFORE UPDATE ON worker_sync_ledger.head
    FOR EACH ROW EXECUTE FUNCTION worker_sync_ledger.only_grow();
ALTER TABLE worker_sync_ledger.head ENABLE ALWAYS TRIGGER only_grow;

-- The partitions of a moment's month (in UTC) and of the next one. A writer can't create tables, this function can. It
-- makes a table and attaches it, which waits for no reader and no writer, as PARTITION OF would.
CREATE FUNCTION worker_sync_ledger.ensure_partitions(moment timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp;
    part  text;
BEGIN
    IF moment NOT BETWEEN clock_timestamp() - interval '62 days'
       AND (SELECT greatest(clock_timestamp(), recorded_at) FROM worker_sync_ledger.head) + interval '62 days' THEN
        RAISE EXCEPTION 'no entry is recorded at %', moment USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOCK TABLE worker_sync_ledger.entries IN SHARE UPDATE EXCLUSIVE MODE;
    FOR month IN SELECT date_trunc('month', moment AT TIME ZONE 'UTC') + n * interval '1 month' FROM generate_series(0, 1) n
    LOOP
        part := to_char(month, '"entries_"FMYYYY"_"MM');
        IF to_regclass('worker_sync_ledger.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE worker_sync_ledger.%I (LIKE worker_sync_ledger.entries INCLUDING ALL)', part);
            EXECUTE format('CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON worker_sync_ledger.%I '
                           'FOR EACH STATEMENT EXECUTE FUNCTION worker_sync_ledger.refuse()', part);
            EXECUTE format('ALTER TABLE worker_sync_ledger.%I ENABLE ALWAYS TRIGGER refuse', part);
            EXECUTE format('ALTER TABLE worker_sync_ledger.entries ATTACH PARTITION worker_sync_ledger.%I '
                           'FOR VALUES FROM (%L) TO (%L)', part, to_char(month, 'FMYYYY-MM-DD"T00:00:00Z"'),
                           to_char(month + interval '1 month', 'FMYYYY-MM-DD"T00:00:00Z"'));
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION worker_sync_ledger.ensure_partitions(timestamptz) FROM PUBLIC;
