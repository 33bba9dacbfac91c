"""MongoDB as a target: a table is a collection, a row a document, a batch one multi-document transaction.

A truncate deletes the documents one by one inside the batch's transaction (MongoDB can't drop a collection there), so
on a large collection it takes about as long as deleting its rows, and must end within the server's
transactionLifetimeLimitSeconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import ClassVar

from pymongo.errors import OperationFailure

from connectors.base import Finding, Mark, Sink, TableReader
from connectors.mongodb.abandoned import patiently
from connectors.mongodb.applying import Applier
from connectors.mongodb.cluster import identity, now
from connectors.mongodb.conn import open_database, redacted
from connectors.mongodb.errors import NAMESPACE_EXISTS, not_a_replica_set, translated
from connectors.mongodb.marks import WATERMARKS, Watermarks
from connectors.mongodb.preflight import run_checks
from connectors.mongodb.reader import MongoReader
from connectors.mongodb.tables import Tables, collection_name
from worker_sync.core.change import Batch
from worker_sync.core.parking import Parked, Plan
from worker_sync.core.position import Position
from worker_sync.core.schema import TableName, TableSchema


class MongoSink(Sink):
    """A MongoDB database to apply to. `name` is its name in the configuration, `url` names the database in its path.

    Raises ConfigError for a URL without a database or that can't be used; connects on first use.
    """

    engine: ClassVar[str] = "mongodb"
    #: Changing a field of every document could outlast the server's limit for a transaction.
    alters_rows: ClassVar[bool] = False

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._where = redacted(url)
        self._database = open_database(url)
        self._tables = Tables(self._database)
        self._watermarks = Watermarks(self._database)
        self._applier = Applier(self._database, self._tables, self._watermarks)

    def __repr__(self) -> str:
        return f"MongoSink({self.name!r}, {self._where!r})"

    def close(self) -> None:
        self._database.client.close()

    def identity(self) -> str:
        return self._identity

    def now(self) -> datetime:
        with translated(self._where):
            return now(self._database)

    @cached_property
    def _identity(self) -> str:
        with translated(self._where):
            return identity(self._database, self._where)

    def preflight(self, tables: Sequence[TableSchema]) -> list[Finding]:
        return run_checks(self._database, self._where, tables)

    def prepare(self) -> None:
        with translated(self._where):
            if "setName" not in (hello := self._database.command("hello")) and hello.get("msg") != "isdbgrid":
                raise not_a_replica_set(self._where)
            try:
                self._database.command({"create": WATERMARKS, "writeConcern": {"w": "majority"}})
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise

    def map_table(self, source: TableSchema, to: str | None) -> TableSchema:
        """`to` is a collection's name as it stands; without it, the table's name, with its namespace in front unless
        that is `public`."""
        name = TableName("", collection_name(source.table, to))
        return TableSchema(name, source.columns, source.key, source.engine)

    def create_table(self, table: TableSchema) -> bool:
        with translated(self._where):
            return self._tables.create(table)

    def fence(self, pipeline: str, shard: int, epoch: int, identity: str, start: Position) -> Mark:
        with translated(self._where):
            work = partial(self._watermarks.fence, pipeline, shard, epoch, identity, start)
            return patiently(self._database, work)

    def marks(self, pipeline: str) -> dict[int, Mark]:
        with translated(self._where):
            return self._watermarks.all(pipeline)

    def forget(self, pipeline: str) -> None:
        with translated(self._where):
            self._watermarks.forget(pipeline)

    def park(self, pipeline: str, shard: int, epoch: int, parked: Parked) -> None:
        with translated(self._where):
            patiently(self._database, lambda: self._watermarks.park(pipeline, shard, epoch, parked))

    def apply(self, batch: Batch, plan: Plan | None = None) -> str:
        with translated(self._where):
            return self._applier.apply(batch, plan)

    def reader(self) -> TableReader:
        return MongoReader(open_database(self._url), self._where)
