"""Which tables of the log a stream delivers, and what reads their rows."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from connectors.mysql.binlog.queries import Effect, Statement
from connectors.mysql.binlog.row_events import TableReader
from connectors.mysql.binlog.table_map import parse_table_map, table_name
from connectors.mysql.binlog.transactions import Tables
from connectors.mysql.catalog import OWN_PREFIX
from connectors.mysql.conn import database_name
from connectors.mysql.position import RESYNC
from connectors.mysql.registration import TABLE, messages_of
from connectors.mysql.versions import Versions
from worker_sync.core.change import Change, Message
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import TableName, TableSchema

#: A log that went on without the table is read on from where it was.
ONCE_GONE: Final = "worker-sync resume PIPELINE if it is gone for good"
#: Descriptions of tables that are kept; more start anew.
_MOST: Final = 20_000


class Captured(Tables):
    """The tables of the URL's database, all or those named; `folds`: the server ignores case in their names. Of tables
    that are `gone` the log may still hold rows, and behind them what became of the table."""

    mariadb = False

    def __init__(
        self, url: str, tables: Set[TableName] | None, *, folds: bool, gone: Sequence[TableSchema] = ()
    ) -> None:
        self._database = database_name(url)
        fold = self._folded if folds else _same
        self._wanted = None if tables is None else frozenset(map(fold, tables))
        self._gone = {fold(schema.table): schema for schema in gone}
        self._folds = folds
        self._versions = Versions(url)
        self.schemas = self._versions.schemas
        self._readers: dict[bytes, TableReader | None] = {}

    def reader(self, body: bytes) -> TableReader | None:
        # Two table maps of the same bytes (behind table id and flags) describe the same version of a table.
        key = body[8:]
        try:
            return self._readers[key]
        except KeyError:
            if len(self._readers) >= _MOST:
                self._readers.clear()
            reader = self._readers[key] = self._describe(body)
            return reader

    def _describe(self, body: bytes) -> TableReader | None:
        database, table = table_name(body)
        was = self._gone.get(self._named(database, table))
        if was is not None or self._wants(database, table):
            return self._versions.describe(parse_table_map(body, mariadb=self.mariadb), was)
        if (database, table) != (self._database, TABLE):
            return None
        reader = self._versions.describe(parse_table_map(body, mariadb=self.mariadb), listed=False)
        reader.carries_messages = True
        return reader

    def _wants(self, database: str, table: str) -> bool:
        name = self._named(database, table)
        ours = self._database.lower() if self._folds else self._database
        if name.namespace != ours or name.name.startswith(OWN_PREFIX):
            return False
        return self._wanted is None or name in self._wanted

    def _named(self, database: str, table: str) -> TableName:
        name = TableName(database, table)
        return self._folded(name) if self._folds else name

    @staticmethod
    def _folded(name: TableName) -> TableName:
        return TableName(name.namespace.lower(), name.name.lower())

    def messages(self, schema: TableSchema, changes: list[Change]) -> list[Message]:
        return messages_of(schema, changes)

    def redefine(self) -> None:
        self._readers.clear()

    def truncated(self, statement: Statement) -> int | None:
        for database, table in statement.tables:
            was = self._gone.get(self._named(database, table))
            if was is not None or self._wants(database, table):
                return self._versions.number_of(TableName(self._database, table), was)
        return None

    def require_kept(self, statement: Statement) -> None:
        for database, table in statement.tables:
            if statement.effect is Effect.DATABASE_LOST:
                lost = database == self._database
            else:
                lost = self._wants(database, table)
            if lost:
                name = f"{database}.{table}" if table else f"database {database}"
                detail = f"{name} was dropped, renamed or replaced"
                raise Halt(
                    State.SCHEMA_MISMATCH, detail, f"mend the pipeline's tables, then {ONCE_GONE}, else {RESYNC}"
                )

    def close(self) -> None:
        self._versions.close()


class NoTables(Tables):
    """Nothing is captured."""

    def reader(self, body: bytes) -> TableReader | None:
        return None

    def messages(self, schema: TableSchema, changes: list[Change]) -> list[Message]:
        return []

    def redefine(self) -> None:
        """Nothing is known."""

    def truncated(self, statement: Statement) -> int | None:
        return None

    def require_kept(self, statement: Statement) -> None:
        """Nothing is kept."""


def _same(name: TableName) -> TableName:
    return name
