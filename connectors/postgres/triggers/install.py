"""Audit triggers: the statements that install and remove them, and running those."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, NamedTuple

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from connectors.postgres import catalog
from connectors.postgres.conn import READ_SETTINGS, SETTINGS, connect, redact
from connectors.postgres.errors import one_line, translated
from connectors.postgres.identity import LOCK_MS, LOCK_TRIES
from connectors.postgres.statements import quote
from connectors.postgres.triggers import installed
from connectors.postgres.triggers.names import LOCK, ROW_TRIGGER, TRUNCATE_TRIGGER, VERSION
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName

_PAUSE_S: Final = 0.3
_TREE_SQL: Final = """
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_partition_tree(%s::oid::regclass) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.relid <> %s ORDER BY 1
"""
_NAME_SQL: Final = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""
#: Recorded changes that no position up to which all is confirmed covers; without a stream nobody waits for any.
_UNREAD_SQL: Final = """
SELECT count(*) FROM worker_sync_audit.changes c, worker_sync_audit.stream s
WHERE c.op <> 'm' AND c.xid NOT IN (
    SELECT u.xid FROM worker_sync_audit.windows w, unnest(w.xids) WITH ORDINALITY AS u(xid, place)
    WHERE lpad(to_hex(w.number), 16, '0') || lpad(to_hex(u.place), 8, '0') <= s.confirmed)
"""
# Names have their lengths before them, so that no name can make one list of columns look like another.
_COLUMNS: Final = """(
    SELECT string_agg(concat_ws(',', atttypid, atttypmod, attgenerated, length(attname::text), attname), ';'
                      ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped)"""
_GRANTS: Final = """
GRANT USAGE ON SCHEMA worker_sync_audit TO {role};
GRANT SELECT ON worker_sync_audit.installation, worker_sync_audit.layouts TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON
    worker_sync_audit.changes, worker_sync_audit.stream, worker_sync_audit.windows TO {role};
GRANT EXECUTE ON FUNCTION worker_sync_audit.cut() TO {role};
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Statements of one transaction. `what` says what they do, `table` which they lock for a moment."""

    what: str
    statements: str

    def script(self) -> str:
        """For a person to run."""
        return f"-- {self.what}\nBEGIN;\nSET LOCAL lock_timeout = '{LOCK_MS}ms';\n{self.statements.strip()}\nCOMMIT;\n"


class Audited(NamedTuple):
    """A table of the trail: enabled, or what is wrong with its triggers."""

    table: TableName
    state: str


def schema_sql() -> str:
    """What the triggers need, but for grants."""
    settings = "\n".join(f"SET {quote(name)} = '{value}'" for name, value in SETTINGS.items())
    text = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    return text.format(settings=settings, version=VERSION, lock=LOCK, columns=_COLUMNS)


class Installer:
    """Installs and removes audit triggers over one connection, which may have another role than the capture's."""

    def __init__(self, url: str) -> None:
        self._where = redact(url)
        with translated(self._where):
            self._conn: Connection[TupleRow] = connect(url, READ_SETTINGS)

    def __enter__(self) -> Installer:
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    # -- what is there

    def audited(self, tables: Sequence[TableName]) -> list[Audited]:
        """The state of each table's triggers."""
        with translated(self._where):
            found = catalog.named_relations(self._conn, tables)
            broken = installed.broken(self._conn, [relation.oid for relation in found.values()])
        return [Audited(table, _state(broken.get(found[table].oid))) for table in sorted(found)]

    def unread(self) -> int:
        """Recorded changes that are not in the ledger yet."""
        with translated(self._where):
            if installed.version(self._conn) is None:
                return 0
            row = self._conn.execute(_UNREAD_SQL).fetchone()
        return row[0] if row else 0

    # -- what is to be done

    def install_steps(self, tables: Sequence[TableName]) -> list[Step]:
        """What is missing so that exactly these tables are recorded; nothing when nothing is. Tables whose triggers are
        in order are not touched."""
        with translated(self._where):
            found = catalog.named_relations(self._conn, tables)
            wanted = {relation.oid: relation.schema.table for relation in found.values()}
            ready = installed.version(self._conn) == VERSION and not installed.removing(self._conn)
            steps = [] if ready else [self._schema_step()]
            broken = installed.broken(self._conn, wanted)
            steps += [self._table_step(oid, wanted[oid], broken[oid]) for oid in sorted(broken, key=wanted.__getitem__)]
            return steps + [self._drop_step(oid) for oid in installed.triggered(self._conn) if oid not in wanted]

    def remove_steps(self) -> list[Step]:
        """What takes the triggers away. The trail goes on to the end of what was recorded, and does not miss them."""
        with translated(self._where):
            told = Step(
                "read what was recorded to its end", "UPDATE worker_sync_audit.installation SET removing = true;"
            )
            steps = [] if installed.version(self._conn) is None or installed.removing(self._conn) else [told]
            return steps + [self._drop_step(oid) for oid in installed.triggered(self._conn)]

    def drop_schema_steps(self) -> list[Step]:
        """What removes everything else, and with it all changes that were recorded."""
        with translated(self._where):
            row = self._conn.execute("SELECT to_regnamespace('worker_sync_audit') IS NOT NULL").fetchone()
        drop = Step(
            "remove the recorded changes and all that belongs to them", "DROP SCHEMA worker_sync_audit CASCADE;"
        )
        return [drop] if row == (True,) else []

    def _schema_step(self) -> Step:
        row = self._conn.execute("SELECT quote_ident(current_user)").fetchone()
        assert row is not None
        return Step("what the triggers write to", schema_sql() + _GRANTS.format(role=row[0]))

    def _table_step(self, oid: int, table: TableName, broken: Sequence[installed.Triggered]) -> Step:
        name = catalog.quoted(table)
        lines = []
        if any(one.state == "missing" for one in broken):
            for trigger, events in _EVENTS.items():
                lines.append(f'DROP TRIGGER IF EXISTS "{trigger}" ON {name};')
                lines.append(
                    f'CREATE TRIGGER "{trigger}" {events.format(name)} EXECUTE FUNCTION worker_sync_audit.record();'
                )
        for trigger in _EVENTS:
            lines.append(f'ALTER TABLE {name} ENABLE ALWAYS TRIGGER "{trigger}";')
        partitions = self._conn.execute(_TREE_SQL, (oid, oid)).fetchall()
        lines += [f'ALTER TABLE {partition} ENABLE ALWAYS TRIGGER "{ROW_TRIGGER}";' for (partition,) in partitions]
        return Step(f"record changes of {table}", "\n".join(lines))

    def _drop_step(self, oid: int) -> Step:
        row = self._conn.execute(_NAME_SQL, (oid,)).fetchone()
        assert row is not None
        table = TableName(*row)
        lines = [f'DROP TRIGGER IF EXISTS "{trigger}" ON {catalog.quoted(table)};' for trigger in _EVENTS]
        return Step(f"record changes of {table} no more", "\n".join(lines))

    # -- doing it

    def run(self, step: Step) -> None:
        """Run a step. Raises Halt when this role may not, or when a table can't be had for a moment."""
        why = f"{LOCK_TRIES} times in a row another transaction held the table for {LOCK_MS} ms"
        for attempt in range(LOCK_TRIES):
            time.sleep(_PAUSE_S if attempt else 0)
            try:
                with translated(self._where), self._conn.transaction():
                    self._attempt(step)
                return
            except _Locked:
                continue
            except _Forbidden as error:
                why = error.args[0]
                break
        raise Halt(State.PREFLIGHT_FAILED, f"{self._where}: could not {step.what}: {why}", _BY_ANOTHER)

    def _attempt(self, step: Step) -> None:
        try:
            self._conn.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            self._conn.execute(step.statements.encode())
        except psycopg.errors.LockNotAvailable as error:
            raise _Locked from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise _Forbidden(one_line(error)) from error


class _Locked(Exception):
    """Another transaction holds the table"""


class _Forbidden(Exception):
    """The role may not"""


_BY_ANOTHER: Final = "try again, or let a role that owns the tables run what --dry-run prints"
_EVENTS: Final = {
    ROW_TRIGGER: "AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW",
    TRUNCATE_TRIGGER: "AFTER TRUNCATE ON {} FOR EACH STATEMENT",
}


def _state(broken: Sequence[installed.Triggered] | None) -> str:
    return ", ".join(dict.fromkeys(one.state for one in broken)) if broken else "enabled"
