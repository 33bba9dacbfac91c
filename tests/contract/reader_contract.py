"""What every TableReader of a source must do, and how its chunks fit into the stream; part of the source suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from time import monotonic

import pytest

from connectors.base import Source
from tests.contract.source_engine import SourceEngine, following, rows_of
from worker_sync.core.schema import Kind, TableName
from worker_sync.core.values import Key


class SourceFixtures:
    """What the tests of the suite share."""

    @pytest.fixture
    def source(self, engine: SourceEngine) -> Iterator[Source]:
        with engine.source() as source:
            yield source

    @pytest.fixture
    def items(self, engine: SourceEngine) -> TableName:
        return engine.create_table("items", {"id": Kind.INT, "name": Kind.TEXT, "note": Kind.TEXT}, ["id"])

    @pytest.fixture
    def start(self, source: Source, items: TableName) -> str:
        return source.create_stream([items]).commit


class ReaderContract(SourceFixtures):
    """Current rows."""

    @pytest.mark.parametrize(
        ("columns", "keys"),
        [
            ({"id": Kind.INT}, [(number,) for number in range(-60, 60)]),
            ({"id": Kind.TEXT}, [(f"{char}{number}",) for number in range(30) for char in "aB é"]),
            ({"id": Kind.UUID}, [(str(uuid.UUID(int=number * 7919 << 100)),) for number in range(120)]),
            ({"one": Kind.INT, "two": Kind.TEXT}, [(a, b) for a in range(12) for b in "abcdefghij"]),
        ],
        ids=["int", "text", "uuid", "composite"],
    )
    def test_chunks_cover_every_row_once(
        self, engine: SourceEngine, source: Source, columns: dict[str, Kind], keys: list[Key]
    ) -> None:
        table = engine.create_table("paged", {"value": Kind.TEXT, **columns}, list(columns))
        with engine.transaction() as writer:
            writer.insert(table, *({"value": "v", **dict(zip(columns, key, strict=True))} for key in keys))
        with source.reader() as reader:
            schema = reader.schema(table)
            assert schema is not None
            found, chunks = rows_of(reader, schema, 7)
        assert sorted(found) == sorted(engine.key(table, *key) for key in keys)
        assert len(found) == len(keys)
        assert all(len(chunk.rows) == 7 for chunk in chunks[:-1])

    def test_a_chunk_of_an_empty_table_is_done(self, source: Source, items: TableName) -> None:
        with source.reader() as reader:
            schema = reader.schema(items)
            assert schema is not None
            chunk = reader.chunk(schema, None, 10)
        assert (chunk.rows, chunk.done) == ([], True)

    def test_a_chunk_knows_which_transactions_it_saw(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with source.reader() as reader, engine.transaction() as open_one:
            open_one.insert(items, {"id": 1, "name": "began before, committed after", "note": None})
            with engine.transaction() as seen:
                seen.insert(items, {"id": 2, "name": "committed before", "note": None})
            schema = reader.schema(items)
            assert schema is not None
            chunk = reader.chunk(schema, None, 10)
        with engine.transaction() as later:
            later.insert(items, {"id": 3, "name": "began after", "note": None})
        with following(source, start) as follower:
            changes = follower.read_changes(3)
            follower.read_to(chunk.horizon)
        saw = {engine.id_of(change.after): chunk.sees(info) for info, change in changes if change.after}
        assert saw == {1: False, 2: True, 3: False}
        assert [engine.id_of(row) for row in chunk.rows] == [2]
        assert all(info.commit <= chunk.horizon for info, _ in changes if chunk.sees(info))

    def test_the_stream_reaches_the_horizon_of_a_chunk_while_the_source_is_idle(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            writer.insert(items, *({"id": number, "name": "x", "note": "old"} for number in range(500)))
        with engine.transaction() as writer:
            # Leaves old versions for the reader to step over.
            for number in range(500):
                writer.update(items, {"id": number}, {"note": "new"})
        with source.reader() as reader, following(source, start) as follower:
            schema = reader.schema(items)
            assert schema is not None
            for _ in range(3):
                began = monotonic()
                follower.read_to(reader.chunk(schema, None, 500).horizon)
                assert monotonic() - began < 3

    def test_rows_by_keys_leaves_missing_ones_out(self, engine: SourceEngine, source: Source, items: TableName) -> None:
        with engine.transaction() as writer:
            writer.insert(items, *({"id": number, "name": f"n{number}", "note": None} for number in range(1_500)))
        with source.reader() as reader:
            schema = reader.schema(items)
            assert schema is not None
            wanted = [7, 1_499, 5_000, *range(20, 1_300)]
            chunk = reader.rows(schema, [engine.key(items, number) for number in wanted])
            assert reader.rows(schema, []).rows == []
        assert sorted(engine.id_of(row) for row in chunk.rows) == [7, *range(20, 1_300), 1_499]
        assert chunk.done

    def test_rows_by_keys_knows_composite_keys(self, engine: SourceEngine, source: Source) -> None:
        table = engine.create_table("pairs", {"a": Kind.INT, "b": Kind.TEXT}, ["a", "b"])
        with engine.transaction() as writer:
            writer.insert(table, *({"a": a, "b": b} for a in range(3) for b in "xyz"))
        with source.reader() as reader:
            schema = reader.schema(table)
            assert schema is not None
            keys = [engine.key(table, a, b) for a, b in ((0, "x"), (2, "z"), (2, "q"))]
            found = sorted(reader.rows(schema, keys).rows)
        assert found == [engine.row(table, {"a": 0, "b": "x"}), engine.row(table, {"a": 2, "b": "z"})]

    def test_the_reader_and_the_stream_agree_on_schema_and_rows(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "ünïcödé", "note": None})
        with source.reader() as reader, following(source, start) as follower:
            _, change = follower.read_changes(1)[0]
            schema = reader.schema(items)
            assert schema == follower.stream.schemas[change.table]
            assert reader.chunk(schema, None, 10).rows == [change.after]

    def test_a_missing_table_has_no_schema(self, source: Source, items: TableName) -> None:
        with source.reader() as reader:
            assert reader.schema(TableName(items.namespace, "missing")) is None

    def test_counting_is_about_right(self, engine: SourceEngine, source: Source, items: TableName) -> None:
        with engine.transaction() as writer:
            writer.insert(items, *({"id": number, "name": "x", "note": None} for number in range(5_000)))
        with source.reader() as reader:
            schema = reader.schema(items)
            assert schema is not None
            assert 500 < reader.count(schema) < 50_000

    def test_closing_twice_is_fine(self, source: Source, start: str) -> None:
        stream = source.open_stream(start)
        reader = source.reader()
        for closeable in (stream, reader, source):
            closeable.close()
            closeable.close()
