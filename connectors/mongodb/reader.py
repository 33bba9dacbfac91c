"""Current documents as rows, in the canonical values of the source's types."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from bson.timestamp import Timestamp
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from connectors.base import Chunk, Scan, TableReader
from connectors.mongodb.cluster import commit_of
from connectors.mongodb.collections import collection_schema
from connectors.mongodb.conn import PLAIN, RAW, Document
from connectors.mongodb.documents import Codec, codec_of
from connectors.mongodb.errors import translated
from connectors.mongodb.tables import Tables
from worker_sync.core.change import TransactionInfo
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Key, Row

#: Keys of one query.
MAX_KEYS: Final = 5_000


@dataclass(slots=True)
class MongoChunk(Chunk):
    """Rows as of one cluster time.

    `horizon` is that time as sixteen hex digits, seconds and increment: the form of a MongoDB commit position. A
    snapshot holds exactly the transactions that committed up to its time.
    """

    rows: list[Row]
    horizon: str
    done: bool

    def sees(self, info: TransactionInfo) -> bool:
        return info.commit <= self.horizon


class MongoReader(TableReader):
    """Reads collections: those of a source, and what `MongoSink` writes. Closing it closes its client."""

    def __init__(self, database: Database[Document], where: str) -> None:
        self._database = database
        self._tables = Tables(database)
        self._where = where

    def close(self) -> None:
        self._database.client.close()

    def schema(self, table: TableName) -> TableSchema | None:
        """A collection knows no columns: a row is its `_id` and the whole document."""
        with translated(self._where):
            return None if self._tables.info(str(table)) is None else collection_schema(table)

    def chunk(self, table: TableSchema, after: Key | None, limit: int) -> Chunk:
        """Key order is that of MongoDB: by type, text by its UTF-8 bytes, keys of several columns column by column."""
        codec = codec_of(table)
        where = {} if after is None else codec.beyond(after)
        with translated(self._where), self._database.client.start_session(snapshot=True) as session:
            rows = self._find(codec, where, session, limit + 1)
            return MongoChunk(rows[:limit], _horizon(session), len(rows) <= limit)

    def rows(self, table: TableSchema, keys: Sequence[Key]) -> Chunk:
        codec = codec_of(table)
        identifiers = [codec.identifier(key) for key in keys]
        rows: list[Row] = []
        with translated(self._where), self._database.client.start_session(snapshot=True) as session:
            for at in range(0, max(len(identifiers), 1), MAX_KEYS):
                rows += self._find(codec, {"_id": {"$in": identifiers[at : at + MAX_KEYS]}}, session, 0)
            return MongoChunk(rows, _horizon(session), True)

    def scan(self, table: TableSchema, limit: int) -> Scan:
        """See `TableReader.scan`. The server keeps a snapshot for minSnapshotHistoryWindowInSeconds (5 minutes); a scan
        that takes longer ends in an error."""
        self._tables.id(table)
        return MongoScan(self._database, codec_of(table), self._where, limit)

    def count(self, table: TableSchema) -> int:
        with translated(self._where):
            return self._database[str(table.table)].estimated_document_count()

    def _find(self, codec: Codec, where: Document, session: ClientSession, limit: int) -> list[Row]:
        self._tables.id(codec.table)
        options: Any = RAW if codec.nested else PLAIN
        collection = self._database.get_collection(str(codec.table.table), codec_options=options)
        found = collection.find(where, session=session).sort("_id", 1).limit(limit)
        return [codec.row(document) for document in found]


class MongoScan(Scan):
    """A cursor in a snapshot session."""

    def __init__(self, database: Database[Document], codec: Codec, where: str, limit: int) -> None:
        self._codec = codec
        self._where = where
        self._limit = limit
        options: Any = RAW if codec.nested else PLAIN
        collection = database.get_collection(str(codec.table.table), codec_options=options)
        with translated(where):
            self._session = database.client.start_session(snapshot=True)
            self._cursor = collection.find({}, session=self._session, batch_size=limit)

    def chunk(self) -> Chunk:
        with translated(self._where):
            rows = [self._codec.row(document) for document in islice(self._cursor, self._limit)]
            return MongoChunk(rows, _horizon(self._session), len(rows) < self._limit)

    def close(self) -> None:
        with suppress(PyMongoError):
            self._cursor.close()
            self._session.end_session()


def _horizon(session: ClientSession) -> str:
    """The cluster time at which the session's reads stand; the driver has no public name for it."""
    time: Timestamp = session._snapshot_time  # type: ignore[assignment]
    return commit_of(time)
