"""Row filters mean what the same condition means to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import TableReader
from connectors.registry import open_source
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.filter_syntax import parse_filter
from worker_sync.core.filters import Predicate
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.values import Row

TABLE = """
CREATE TABLE things (id int PRIMARY KEY, n bigint, d numeric, f float8, t text COLLATE "C", b bool, day date,
    at timestamp, seen timestamptz, code uuid);
INSERT INTO things SELECT i,
    (ARRAY[NULL, -1, 0, 7, 9223372036854775807])[1 + i % 5],
    (ARRAY[NULL, '-0.5', '7', '7.00', '1e20', 'NaN', 'Infinity', '-Infinity']::numeric[])[1 + i % 8],
    (ARRAY[NULL, '-0.5', '7', '0.1', 'NaN', 'Infinity', '-0'])[1 + i % 7]::float8,
    (ARRAY[NULL, '', 'a', 'ab', 'a%', 'a_b', 'Ä', 'it''s', E'a\\nb'])[1 + i % 9],
    (ARRAY[NULL, true, false])[1 + i % 3],
    (ARRAY[NULL, '2024-02-29', '0044-03-15 BC', 'infinity', '-infinity', '12024-01-01'])[1 + i % 6]::date,
    (ARRAY[NULL, '2024-02-29 12:00', '2024-02-29 12:00:00.5', 'infinity', '0001-01-01 BC'])[1 + i % 5]::timestamp,
    (ARRAY[NULL, '2024-02-29 12:00+00', '2024-02-29 12:00:00.000001+00', '-infinity'])[1 + i % 4]::timestamptz,
    (ARRAY[NULL, '0b5c0f58-7a3c-4a51-9d0c-2f6a5f6f7a11', 'ffffffff-0000-0000-0000-000000000000'])[1 + i % 3]::uuid
FROM generate_series(1, 200) i;
"""

LITERALS = {
    "n": ["-1", "0", "7", "9223372036854775807"],
    "d": ["-0.5", "7", "7.0", "1e20", "3.25"],
    "f": ["-0.5", "7", "0.1", "0", "1e300"],
    "t": ["''", "'a'", "'ab'", "'B'", "'it''s'", "'Ä'"],
    "day": ["'2024-02-29'", "'0001-01-01'", "'9999-12-31'"],
    "at": ["'2024-02-29'", "'2024-02-29 12:00:00'", "'2024-02-29 12:00:00.500'", "'0001-01-01 00:00'"],
    "seen": ["'2024-02-29 12:00:00+00'", "'2024-02-29 14:00+02:00'", "'2024-02-29T12:00:00.000001Z'"],
    "code": ["'0B5C0F58-7A3C-4A51-9D0C-2F6A5F6F7A11'", "'00000000-0000-0000-0000-000000000000'"],
}
PATTERNS = ["'a%'", "'%b'", "'a_b'", r"'a\%'", r"'a\_%'", "'_'", "'%'", "''", r"'\\'"]


@pytest.fixture(scope="module")
def things(postgres: str) -> Iterator[str]:
    with new_database(postgres, "filters") as url:
        with psycopg.connect(url) as connection:
            connection.execute(TABLE.encode())
        yield url


@pytest.fixture(scope="module")
def server(things: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(things, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def rows(things: str) -> list[Row]:
    with open_source("source", things) as source, source.reader() as reader:
        return reader.chunk(schema_of(reader), None, 1000).rows


@pytest.fixture(scope="module")
def schema(things: str) -> TableSchema:
    with open_source("source", things) as source, source.reader() as reader:
        return schema_of(reader)


def schema_of(reader: TableReader) -> TableSchema:
    found = reader.schema(TableName("public", "things"))
    assert found is not None
    return found


def comparison(column: str) -> st.SearchStrategy[str]:
    literal = st.sampled_from(LITERALS[column])
    inverted = st.sampled_from(["", "NOT "])
    return st.one_of(
        st.builds(
            lambda op, v: f"{column} {op} {v}", st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="]), literal
        ),
        st.builds(lambda i, v: f"{column} {i}IN ({', '.join(v)})", inverted, st.lists(literal, min_size=1, max_size=3)),
        st.builds(lambda i: f"{column} IS {i}NULL", inverted),
    )


checks = st.one_of(
    st.sampled_from(sorted(LITERALS)).flatmap(comparison),
    st.sampled_from(["b = TRUE", "b != FALSE", "b IN (TRUE)", "b IS NULL"]),
    st.builds(lambda i, p: f"t {i}LIKE {p}", st.sampled_from(["", "NOT "]), st.sampled_from(PATTERNS)),
)
conditions = st.recursive(
    checks,
    lambda inner: st.one_of(
        st.builds(lambda part: f"NOT ({part})", inner),
        st.builds(lambda one, op, two: f"({one}) {op} {two}", inner, st.sampled_from(["AND", "OR"]), inner),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=conditions)
def test_a_filter_keeps_the_rows_that_postgresql_selects(
    server: psycopg.Connection, rows: list[Row], schema: TableSchema, where: str
) -> None:
    keeps = Predicate(parse_filter(where), schema)
    selected = server.execute(f"SELECT id FROM things WHERE {where} ORDER BY id".encode()).fetchall()
    assert [row[0] for row in rows if keeps(row)] == [row[0] for row in selected]
