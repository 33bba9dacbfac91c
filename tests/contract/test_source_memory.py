"""The in-memory engine joins the source suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from connectors.base import Source
from connectors.memory import MemorySource
from connectors.memory_store import MemoryDatabase, MemoryTransaction
from tests.contract.source_contract import SourceContract
from tests.contract.source_engine import SourceEngine, Values, Writer
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type


class _MemoryWriter(Writer):
    def __init__(self, database: MemoryDatabase, transaction: MemoryTransaction) -> None:
        self._database = database
        self._transaction = transaction

    def insert(self, table: TableName, *rows: Values) -> None:
        names = self._database.tables[table].schema.column_names
        for row in rows:
            self._transaction.insert(table, tuple(row.get(name) for name in names))

    def update(self, table: TableName, key: Values, values: Values) -> None:
        schema = self._database.tables[table].schema
        old = tuple(key[name] for name in schema.key)
        before = self._transaction.row(table, old)
        assert before is not None
        row = {**dict(zip(schema.column_names, before, strict=True)), **values}
        self._transaction.update(table, old, tuple(row[name] for name in schema.column_names))

    def delete(self, table: TableName, key: Values) -> None:
        schema = self._database.tables[table].schema
        self._transaction.delete(table, tuple(key[name] for name in schema.key))

    def truncate(self, table: TableName) -> None:
        self._transaction.truncate(table)

    def message(self, prefix: str, content: bytes) -> None:
        self._transaction.message(prefix, content)


class _MemoryEngine(SourceEngine):
    def __init__(self, url: str) -> None:
        self._url = url
        self._database = MemoryDatabase.of(url)

    def source(self) -> Source:
        return MemorySource(self.name, self._url)

    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        table = TableName("public", name)
        definitions = tuple(
            Column(column, Type(kind, size=64 if kind is Kind.INT else None), column not in key)
            for column, kind in columns.items()
        )
        self._database.create_table(TableSchema(table, definitions, tuple(key), "memory"))
        return table

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        with self._database.transaction() as transaction:
            yield _MemoryWriter(self._database, transaction)

    def stir(self) -> None:
        unrelated = self.create_table("unrelated", {"id": Kind.INT}, ["id"])
        with self.transaction() as writer:
            writer.truncate(unrelated)
            writer.insert(unrelated, {"id": 1})


@pytest.fixture
def engine() -> Iterator[SourceEngine]:
    url = f"memory://{uuid.uuid4().hex}"
    yield _MemoryEngine(url)
    MemoryDatabase.drop(url)


class TestMemorySource(SourceContract):
    pass
