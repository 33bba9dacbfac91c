-- The ledger: one tree of entries that only grows. docs/reference/ledger-format.md says what is hashed and signed.
CREATE SCHEMA IF NOT EXISTS worker_sync_ledger;

-- The sequencer's state. Whoever locks this row appends; RFC 6962 roots of the complete subtrees, largest first.
CREATE TABLE worker_sync_ledger.head (
    only  boolean PRIMARY KEY DEFAULT true CHECK (only),
    size  bigint  NOT NULL CHECK (size >= 0),
    roots bytea   NOT NULL
);
INSERT INTO worker_sync_ledger.head (size, roots) VALUES (0, '');

-- `entry` holds the canonical bytes. The other columns repeat what stands in it, to be searched; verification compares.
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
