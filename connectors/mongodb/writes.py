"""The steps of a folded batch as write commands inside a transaction.

Commands are built by hand: the driver's bulk API makes an object of every write, which costs as much as encoding it.
Inserts cost the server a quarter of upserts, so rows that the batch saw being inserted are inserted, and the whole
transaction is done over with upserts should one of them be there already (`Mode` is how far that went).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final

import bson
import msgspec
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError, WriteError

from connectors.mongodb.bags import identifiers_of
from connectors.mongodb.conn import Document
from connectors.mongodb.documents import Codec, codec_of
from connectors.mongodb.errors import COLLECTION_UUID_MISMATCH, DUPLICATE_KEY, REJECTED, rejection
from worker_sync.core.apply import Move, Step, TableWrites, Truncate
from worker_sync.core.bags import BagWrites
from worker_sync.core.change import Batch, Change, Op
from worker_sync.core.errors import TargetRejected
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import UNCHANGED, Key, Row

#: The driver takes 16 MB a command of ours, the server 100,000 writes.
MAX_COMMAND: Final = 15_000_000
MAX_WRITES: Final = 50_000
#: Keys of one delete; with PostgreSQL's longest keys (2.7 kB) they fit into a document of 16 MB.
MAX_KEYS: Final = 5_000
#: No value takes more than this many times its bytes in MessagePack as BSON (an array of one-digit integers does).
GROWTH: Final = 8
#: From this many inserts on, a command of their own beside that of the updates is the faster way.
WORTH_A_COMMAND: Final = 16

_INSERTS: Final = frozenset({Op.INSERT.value, Op.READ.value})
Run = Callable[[TableSchema, Document], Document]
_sizer: Final = msgspec.msgpack.Encoder(enc_hook=lambda _: None)


class Mode(IntEnum):
    #: Rows that the batch saw being inserted are inserted.
    INSERT = 0
    #: All rows are upserts: some were there.
    UPSERT = 1
    #: All keys are deleted first, then inserted: rows of the batch swap the values of a unique index.
    REPLACE = 2


class CollectionReplaced(Exception):
    """The collection isn't the one whose id was asked."""


class Writer:
    """Writes the steps of one batch. `run` sends a command on a table within the transaction.

    Raises DuplicateKeyError where the next mode may help.
    """

    def __init__(self, run: Run, mode: Mode, inserted: dict[TableName, set[Key]]) -> None:
        self._run = run
        self._mode = mode
        self._inserted = inserted

    def write(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Truncate):
                self._send(step.table, "delete", "deletes", [{"q": {}, "limit": 0}])
            elif isinstance(step, Move):
                self._move(step)
            else:
                for writes in step.tables:
                    self._write_table(writes)
                for bag in step.bags:
                    self._write_bag(bag)

    def _write_table(self, writes: TableWrites) -> None:
        codec = codec_of(writes.table)
        if self._mode is Mode.REPLACE:
            self._replace(codec, writes)
            return
        self._delete(codec, writes.deletes)
        fresh = self._fresh(writes)
        self._update(codec, writes, [row for key, row in writes.rows.items() if key not in fresh])
        self._insert(codec, list(fresh.values()))

    def _write_bag(self, writes: BagWrites) -> None:
        codec = codec_of(writes.table)
        for identifiers in identifiers_of(self._run, codec, writes.deletes):
            self._delete_by(codec, identifiers)
        self._insert(codec, writes.inserts)

    def _fresh(self, writes: TableWrites) -> dict[Key, Row]:
        """The rows to insert."""
        inserted = self._inserted.get(writes.table.table) if self._mode is Mode.INSERT else None
        if not inserted:
            return {}
        fresh = {key: row for key, row in writes.rows.items() if key in inserted and UNCHANGED not in row}
        return fresh if len(fresh) == len(writes.rows) or len(fresh) >= WORTH_A_COMMAND else {}

    def _update(self, codec: Codec, writes: TableWrites, rows: list[Row]) -> None:
        statements = [_update_of(codec.document(row), UNCHANGED in row) for row in rows]
        written = self._send(codec.table, "update", "updates", statements, rows)
        if written < len(statements) and not writes.loading:
            raise self._missing_of(codec, [_key_of(codec.table, row) for row in rows if UNCHANGED in row])

    def _insert(self, codec: Codec, rows: list[Row]) -> None:
        self._send(codec.table, "insert", "documents", [codec.document(row) for row in rows], rows)

    def _delete(self, codec: Codec, keys: Iterable[Key]) -> None:
        self._delete_by(codec, [codec.identifier(key) for key in keys])

    def _delete_by(self, codec: Codec, identifiers: list[Any]) -> None:
        for at in range(0, len(identifiers), MAX_KEYS):
            some = identifiers[at : at + MAX_KEYS]
            where = {"_id": some[0] if len(some) == 1 else {"$in": some}}
            self._send(codec.table, "delete", "deletes", [{"q": where, "limit": 0}])

    def _replace(self, codec: Codec, writes: TableWrites) -> None:
        documents = [document for row in writes.rows.values() if (document := self._whole(codec, row, writes.loading))]
        self._delete(codec, [*writes.deletes, *writes.rows])
        self._send(codec.table, "insert", "documents", documents, list(writes.rows.values()))

    def _whole(self, codec: Codec, row: Row, loading: bool) -> Document | None:
        """The row's document, UNCHANGED fields as they are stored; None when it isn't there and need not be."""
        document = codec.document(row)
        if UNCHANGED not in row:
            return document
        stored = self._stored(codec, document["_id"])
        if stored is None and not loading:
            raise _missing(codec.table, _key_of(codec.table, row))
        return None if stored is None else {**stored, **document}

    def _move(self, step: Move) -> None:
        codec = codec_of(step.table)
        document = codec.document(step.row)
        # Under the new key there may be the row as the snapshot read it after its move; that one is the newer.
        stored = self._stored(codec, document["_id"]) or self._stored(codec, codec.identifier(step.key))
        if stored is not None:
            self._delete(codec, [step.key, _key_of(step.table, step.row)])
            self._send(step.table, "insert", "documents", [{**stored, **document}])
        elif not step.loading:
            raise _missing(step.table, step.key)

    def _stored(self, codec: Codec, identifier: Any) -> Document | None:
        command = {"find": str(codec.table.table), "filter": {"_id": identifier}, "limit": 1, "singleBatch": True}
        found = self._run(codec.table, command)["cursor"]["firstBatch"]
        return found[0] if found else None

    def _missing_of(self, codec: Codec, keys: list[Key]) -> TargetRejected:
        missing = (key for key in keys if self._stored(codec, codec.identifier(key)) is None)
        return _missing(codec.table, next(missing, keys[0]))

    def _send(
        self, table: TableSchema, verb: str, field: str, statements: list[Document], rows: Sequence[Row] = ()
    ) -> int:
        """Run the statements in as few commands as they take; how many documents they were for. `rows` are what the
        statements were made of, as a measure of their size."""
        written = 0
        for part in _parts(table, statements, rows):
            reply = self._run(table, {verb: str(table.table), field: part, "ordered": False})
            if "writeErrors" in reply:
                raise self._error(table, reply["writeErrors"][0])
            written += int(reply["n"])
        return written

    def _error(self, table: TableSchema, error: Document) -> Exception:
        code = int(error["code"])
        if code == COLLECTION_UUID_MISMATCH:
            return CollectionReplaced(str(table.table))
        if code == DUPLICATE_KEY and self._mode is not Mode.REPLACE:
            return DuplicateKeyError(f"{table.table}: {rejection(error, code)}", code, error)
        if code in REJECTED:
            return TargetRejected(f"{table.table}: {rejection(error, code)}")
        return WriteError(f"{table.table}: {error.get('errmsg')}", code, error)


def _update_of(document: Document, partial: bool) -> Document:
    identifier = document["_id"]
    if not partial:
        return {"q": {"_id": identifier}, "u": document, "upsert": True}
    del document["_id"]
    return {"q": {"_id": identifier}, "u": {"$set": document}}


def _key_of(table: TableSchema, row: Row) -> Key:
    return tuple([row[index] for index in table.key_indexes])


def _missing(table: TableSchema, key: Key) -> TargetRejected:
    return TargetRejected(f"{table.table}: the row with key {key} is to be updated in part and isn't there")


def _parts(table: TableSchema, statements: list[Document], rows: Sequence[Row]) -> Iterator[list[Any]]:
    if not statements:
        return
    names = sum(len(name) + 32 for name in table.column_names)
    if len(statements) <= MAX_WRITES and len(_sizer.encode(rows)) * GROWTH + names * len(rows) < MAX_COMMAND:
        yield statements
        return
    yield from _measured_parts(statements)


def _measured_parts(statements: list[Document]) -> Iterator[list[RawBSONDocument]]:
    part: list[RawBSONDocument] = []
    size = 0
    for statement in statements:
        encoded = bson.encode(statement)
        if part and (size + len(encoded) > MAX_COMMAND or len(part) == MAX_WRITES):
            yield part
            part, size = [], 0
        part.append(RawBSONDocument(encoded))
        size += len(encoded)
    yield part


def inserted_keys(batch: Batch, changes: Iterable[Change]) -> dict[TableName, set[Key]]:
    """By target table, the keys that these changes insert without having deleted them before."""
    inserted: dict[TableName, set[Key]] = {}
    deleted: set[tuple[int, Key]] = set()
    tables = {number: (table.key_indexes, table.table) for number, table in batch.tables.items()}
    for change in changes:
        if change.after is None or change.key is not None:
            if change.key is not None:
                deleted.add((change.table, change.key))
        elif change.op in _INSERTS:
            indexes, name = tables[change.table]
            key = tuple([change.after[index] for index in indexes])
            if (change.table, key) not in deleted:
                inserted.setdefault(name, set()).add(key)
    return inserted
