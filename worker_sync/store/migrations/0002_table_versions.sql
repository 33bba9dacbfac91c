-- What the targets have of the source's tables, so that old events decode and an interrupted alteration is known.
-- The definition of a source table that a pipeline's target has (`version`, NULL: none yet), and the one that follows
-- it: on its way until the pipeline's first shard stands at `place`, or refused where `place` is empty. Changes up to
-- the commit position `since` are older than `version`, whatever their definition says.
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
    PRIMARY KEY (pipeline, table_name)
);
