"""Random values of each kind, from a PostgreSQL to every target: read back as they were, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Sink, TableReader
from connectors.registry import open_source
from tests.matrix.conftest import TARGETS
from tests.matrix.feeding import Feeder, same
from tests.matrix.targets import TargetBed
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row

EXAMPLES = 8
VALUES = 100
NAME = TableName("public", "things")

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_moment = st.datetimes().map(str) | st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 BC", "294276-12-31 23:59:59.9"]
)
_scalar = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | _text
)
_json = st.recursive(_scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4))

#: By the type in PostgreSQL: values as its driver takes them.
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double precision": st.floats(),
    "real": st.floats(width=32),
    "numeric": st.builds("{}e{}".format, st.integers(-(10**40), 10**40), st.integers(-40, 40)),
    "numeric(20,5)": st.integers(-(10**20) + 1, 10**20 - 1).map("{}e-5".format),
    "text": _text,
    "bytea": st.binary(max_size=60),
    "date": st.dates().map(str),
    "timestamp": _moment,
    "timestamptz(3)": _moment,
    "interval": st.builds(
        "{} months {} days {} us".format, *[st.integers(-(10**8), 10**8)] * 2, st.integers(-(2**62), 2**62)
    ),
    "json": st.builds(json.dumps, _json, ensure_ascii=st.booleans()),
    "text[]": st.lists(st.none() | _text, max_size=5),
}
_value = st.one_of(*(st.tuples(st.just(at), strategy) for at, strategy in enumerate(STRATEGIES.values())))


class _Road:
    """From a table of the source to one of the target."""

    def __init__(self, url: str, reader: TableReader, bed: TargetBed, sink: Sink) -> None:
        columns = ", ".join(f"c{at} {type_}" for at, type_ in enumerate(STRATEGIES))
        with psycopg.connect(url) as connection:
            connection.execute(f"CREATE TABLE things (id bigint PRIMARY KEY, {columns})".encode())
        schema = reader.schema(NAME)
        assert schema is not None
        self.schema: TableSchema = schema
        self.target = sink.map_table(schema, None)
        sink.prepare()
        sink.create_table(self.target)
        self.parsed = [bed.describe(column.type, schema.engine).parsed for column in schema.columns]
        self.feeder = Feeder(sink, self.target)
        self._url = url
        self._numbers = count(1)

    def write(self, values: list[tuple[int, Any]]) -> list[tuple[int]]:
        keys = [(next(self._numbers),) for _ in values]
        with psycopg.connect(self._url) as connection, connection.cursor() as cursor:
            for (key,), (at, value) in zip(keys, values, strict=True):
                type_ = list(STRATEGIES)[at]
                cursor.execute(f"INSERT INTO things (id, c{at}) VALUES (%s, %s::{type_})".encode(), (key, value))
        return keys


def _by_key(rows: list[Row]) -> dict[int, Row]:
    return {row[0]: row for row in rows}


@pytest.fixture
def there(request: pytest.FixtureRequest, make_target: Callable[[str], TargetBed]) -> TargetBed:
    return make_target(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("there", TARGETS, indirect=True)
def test_random_values_read_back_as_they_were_or_are_refused(source_db: str, there: TargetBed) -> None:
    with open_source("s", source_db) as source, source.reader() as origin, there.open() as sink, sink.reader() as copy:
        road = _Road(source_db, origin, there, sink)

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(values=st.lists(_value, min_size=1, max_size=VALUES))
        def check(values: list[tuple[int, Any]]) -> None:
            keys = road.write(values)
            before = _by_key(origin.rows(road.schema, keys).rows)
            refused = road.feeder.refusals(list(before.values()))
            after = _by_key(copy.rows(road.target, keys).rows)
            assert after.keys() == before.keys() - refused.keys()
            for key, row in after.items():
                pairs = zip(road.schema.columns, row, before[key], road.parsed, strict=True)
                for column, new, old, parsed in pairs:
                    assert same(column.type, old, new, layout=not parsed), (column.type.native, old, new)

        check()
