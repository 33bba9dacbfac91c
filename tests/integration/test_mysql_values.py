"""Values arrive in MySQL and MariaDB exactly, or are refused; none is altered on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.base import Outcome
from connectors.mysql.reader import MysqlReader
from connectors.mysql.sink import MysqlSink
from tests.contract.sink_target import (
    INT,
    TEXT,
    Script,
    chunk_batch,
    created,
    fence,
    insert,
    read_rows,
    table_schema,
)
from tests.fixtures.fix_mysql import run
from worker_sync.core.errors import Halt, Permanent, State
from worker_sync.core.position import BEGINNING
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type

FLOAT = Type(Kind.FLOAT, "double precision", size=64)
REAL = Type(Kind.FLOAT, "real", size=32)
NUMERIC = Type(Kind.DECIMAL, "numeric")
MONEY = Type(Kind.DECIMAL, "numeric(12,2)", precision=12, scale=2)
DATE = Type(Kind.DATE, "date")
TIME = Type(Kind.TIME, "time without time zone")
TIMESTAMP = Type(Kind.TIMESTAMP, "timestamp without time zone")
TIMESTAMPTZ = Type(Kind.TIMESTAMPTZ, "timestamp with time zone")
JSON = Type(Kind.JSON, "jsonb")
BYTES = Type(Kind.BYTES, "bytea")

EXACT: list[tuple[Type, list[Any]]] = [
    # MariaDB has no negative zero; the two are equal.
    (FLOAT, [0.0, 5e-324, 1.7976931348623157e308, 0.1, -2.2250738585072014e-308, 1e22]),
    (REAL, [0.5, -3.4028235e38, 1e-45, 0.1, 16777216.0]),
    (NUMERIC, ["0", "-12.50", "9" * 60 + "." + "1" * 60, "NaN", "-Infinity"]),
    (MONEY, ["9999999999.99", "-0.01", "0.00", None]),
    (Type(Kind.DECIMAL, "numeric(65,30)", precision=65, scale=30), ["9" * 35 + "." + "9" * 30, "0." + "0" * 29 + "1"]),
    (Type(Kind.DECIMAL, "numeric(3,-2)", precision=3, scale=-2), ["12300", "-99900"]),
    (Type(Kind.DECIMAL, "numeric(2,4)", precision=2, scale=4), ["0.0012", "-0.0099"]),
    (Type(Kind.DECIMAL, "numeric(100,50)", precision=100, scale=50), ["1" * 50 + "." + "3" * 50]),
    (Type(Kind.INT, "bigint unsigned", size=64, unsigned=True), [0, 2**64 - 1]),
    (Type(Kind.INT, "tinyint", size=8), [-128, 127]),
    (Type(Kind.INT, "mediumint unsigned", size=24, unsigned=True), [0, 2**24 - 1]),
    (DATE, ["0001-01-01", "9999-12-31", "2024-02-29", None]),
    (TIME, ["00:00:00", "23:59:59.999999", "24:00:00"]),
    (TIMESTAMP, ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2024-02-29 12:34:56.78"]),
    (Type(Kind.TIMESTAMP, "timestamp(3) without time zone", precision=3), ["2024-02-29 12:34:56.789"]),
    (TIMESTAMPTZ, ["0001-01-01 00:00:00+00", "2024-02-29 12:34:56.789+00", "9999-12-31 23:59:59.999999+00"]),
]

REFUSED: list[tuple[Type, Any]] = [
    (FLOAT, float("nan")),
    (FLOAT, float("-inf")),
    (MONEY, "NaN"),
    (MONEY, "12345678901.00"),
    (DATE, "4713-01-01 BC"),
    (DATE, "10000-01-01"),
    (DATE, "infinity"),
    (TIMESTAMP, "-infinity"),
    (TIMESTAMP, "294276-12-31 23:59:59.999999"),
    (TIMESTAMPTZ, "0044-03-15 12:00:00+00 BC"),
    (TIMESTAMPTZ, "infinity"),
    (Type(Kind.INT, "tinyint", size=8), 128),
    (Type(Kind.INT, "bigint unsigned", size=64, unsigned=True), -1),
    (JSON, '{"a": }'),
]

#: What a strict server takes and alters without an error: target column, source type, value.
ALTERED: list[tuple[str, Type, Any]] = [
    ("decimal(10,2)", MONEY, "1.239"),
    ("decimal(20,2)", NUMERIC, "0.001"),
    ("int", NUMERIC, "1.5"),
    ("float", FLOAT, 0.1234567890123),
    ("datetime", TIMESTAMP, "2024-01-01 00:00:00.5"),
    ("datetime(3)", TIMESTAMPTZ, "2024-01-01 00:00:00.0005+00"),
    ("time", TIME, "12:00:00.5"),
    ("varchar(3)", TEXT, "abc  "),
    ("char(5)", TEXT, "abc "),
    ("tinytext", TEXT, "é" * 127 + "  "),
    ("binary(4)", BYTES, b"abc"),
    ("enum('a','b')", TEXT, "A"),
    ("bit(4)", Type(Kind.BIT, "bit(3)", size=3), "101"),
    ("timestamp not null", TIMESTAMPTZ, None),
    ("varchar(10) character set latin1", TEXT, "漢"),
]


@pytest.fixture
def sink(either_target: str) -> Iterator[MysqlSink]:
    with MysqlSink("target", either_target) as sink:
        sink.prepare()
        fence(sink)
        yield sink


def a_table(*types: Type) -> TableSchema:
    columns = [Column(f"c{number}", type_) for number, type_ in enumerate(types)]
    return table_schema("t", Column("id", INT, False), *columns)


@pytest.mark.parametrize(("type_", "values"), EXACT, ids=lambda part: getattr(part, "native", ""))
def test_what_mysql_can_hold_reads_back_as_it_was(sink: MysqlSink, type_: Type, values: list[Any]) -> None:
    table = created(sink, a_table(type_))
    rows = [(number, value) for number, value in enumerate(values)]
    script = Script(table)
    script.add(*[insert(row) for row in rows])
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert [repr(row) for row in read_rows(sink, table).values()] == [repr(row) for row in rows]


@pytest.mark.parametrize(("type_", "value"), REFUSED, ids=lambda part: getattr(part, "native", str(part)))
def test_what_mysql_can_not_hold_is_refused(sink: MysqlSink, type_: Type, value: Any) -> None:
    table = created(sink, a_table(type_))
    script = Script(table)
    script.add(insert((1, value)))
    with pytest.raises(Permanent) as caught:
        sink.apply(script.whole())
    assert "t" in str(caught.value)
    assert "key (1)" in str(caught.value)
    assert str(value) not in str(caught.value).replace("key (1)", "")
    assert read_rows(sink, table) == {}


@pytest.mark.parametrize(("column", "type_", "value"), ALTERED, ids=lambda part: part if isinstance(part, str) else "")
def test_what_the_server_would_alter_in_silence_is_refused(
    sink: MysqlSink, either_target: str, column: str, type_: Type, value: Any
) -> None:
    run(either_target, f"CREATE TABLE t (id bigint PRIMARY KEY, c0 {column})")
    table = a_table(type_)
    script = Script(table)
    script.add(insert((1, value)))
    with pytest.raises(Permanent):
        sink.apply(script.whole())
    assert run(either_target, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("column", "type_"),
    [("int", TEXT), ("double", MONEY), ("bigint", TIMESTAMP), ("varchar(10)", BYTES), ("date", TIMESTAMP)],
    ids=lambda part: getattr(part, "native", part),
)
def test_a_column_of_another_kind_halts(sink: MysqlSink, either_target: str, column: str, type_: Type) -> None:
    run(either_target, f"CREATE TABLE t (id bigint PRIMARY KEY, c0 {column})")
    with pytest.raises(Halt, match=r"c0.*can't hold") as caught:
        sink.create_table(a_table(type_))
    assert caught.value.state == State.SCHEMA_MISMATCH
    assert "ALTER TABLE `t` MODIFY `c0`" in caught.value.recovery


def test_a_json_column_of_mysql_takes_json_of_mysql_only(mysql_target: str) -> None:
    run(mysql_target, "CREATE TABLE t (id bigint PRIMARY KEY, c0 json)")
    with MysqlSink("target", mysql_target) as sink:
        with pytest.raises(Halt, match="c0"):
            sink.create_table(a_table(JSON))
        table = TableSchema(TableName("", "t"), a_table(Type(Kind.JSON, "json")).columns, ("id",), "mysql")
        assert sink.create_table(table) is False


def test_texts_that_differ_in_case_or_spaces_are_different_keys(sink: MysqlSink) -> None:
    table = created(sink, table_schema("t", Column("id", TEXT, False), Column("v", INT)))
    keys = ["a", "A", "a ", " a", "á", "", "\t", "ß", "ss", "🙂"]
    script = Script(table)
    script.add(*[insert((key, number)) for number, key in enumerate(keys)])
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert read_rows(sink, table) == {(key,): (key, number) for number, key in enumerate(keys)}


def test_a_key_longer_than_an_index_holds_is_refused(sink: MysqlSink) -> None:
    table = created(sink, table_schema("t", Column("id", TEXT, False), Column("b", BYTES, False), key=("id", "b")))
    fits, too_long = Script(table), Script(table)
    fits.add(insert(("🙂" * 380, b"\xff" * 1500)))
    too_long.add(insert(("x" * 400, b"")))
    with pytest.raises(Permanent, match="characters"):
        sink.apply(too_long.whole())
    assert sink.apply(fits.whole()) == Outcome.APPLIED
    assert list(read_rows(sink, table)) == [("🙂" * 380, b"\xff" * 1500)]


def test_two_hundred_columns_hold_long_texts(sink: MysqlSink) -> None:
    columns = [Column(f"c{number}", Type(Kind.TEXT, "varchar(255)", size=255)) for number in range(200)]
    table = created(sink, table_schema("wide", Column("id", INT, False), *columns))
    row = (1, *("x" * 255 for _ in columns))
    script = Script(table)
    script.add(insert(row))
    assert sink.apply(script.whole()) == Outcome.APPLIED
    assert read_rows(sink, table) == {(1,): row}


MYSQL_TABLE = """
CREATE TABLE everything (
    id bigint unsigned AUTO_INCREMENT, tiny tinyint(1), small smallint unsigned, medium mediumint, plain int,
    filled int(5) unsigned zerofill, f float, d double, amount decimal(65,30), c char(3) CHARACTER SET latin1,
    v varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci, t text, lt longtext, b binary(4), vb varbinary(8),
    bl blob, e enum('a','it''s','back\\\\slash','comma,'), s set('x','y z'), flags bit(10), day date, tm time(3),
    dt datetime, dt6 datetime(6), ts timestamp(6) NULL, y year, j json, place point, made int AS (plain + 1) STORED,
    PRIMARY KEY (id)
) DEFAULT CHARACTER SET utf8mb4
"""
MYSQL_ROWS = """
INSERT INTO everything (id, tiny, small, medium, plain, filled, f, d, amount, c, v, t, lt, b, vb, bl, e, s, flags, day,
                        tm, dt, dt6, ts, y, j, place) VALUES
(0, 2, 65535, -8388608, -2147483648, 42, 0.1, 0.1, 99999999999999999999999999999999999.123456789012345678901234567891,
 'é', 'ÄÖ 🙂', 'a\\\\b', 'c''d', x'00', x'00ff', x'ff00fe27', 'it''s', 'x,y z', b'1000000001', '0000-00-00',
 '-838:59:59', '1000-01-01 00:00:00', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999999', 1901,
 '{"b": 1, "a": [1.50, null]}',
 ST_GeomFromText('POINT(1 2)')),
(18446744073709551615, -128, 0, 0, 0, 0, -3.4e38, 5e-324, 0, '', '', '', '', '', '', '', 'back\\\\slash', '', b'0',
 '2024-00-00', '838:59:59', '0000-00-00 00:00:00', '2024-02-29 00:00:00.1', '1970-01-01 00:00:01', 0, 'null', NULL),
(7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


def test_a_table_of_the_same_engine_keeps_its_types_and_values(either_source: str, either_target: str) -> None:
    run(either_source, "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", MYSQL_TABLE, MYSQL_ROWS)
    with MysqlReader(either_source) as reader:
        schema = reader.schema(TableName("", "everything"))
        assert schema is not None
        rows = reader.chunk(schema, None, 10).rows
    assert len(rows) == 3
    with MysqlSink("target", either_target) as sink:
        sink.prepare()
        fence(sink)
        assert sink.create_table(schema)
        assert sink.apply(chunk_batch(schema, rows, BEGINNING, 1, done=True)) == Outcome.APPLIED
        with sink.reader() as reader:
            copied = reader.schema(schema.table)
            assert copied is not None
            assert reader.chunk(schema, None, 10).rows == rows
            assert reader.chunk(copied, None, 10).rows == rows
    if either_source.partition(":")[0] == either_target.partition(":")[0]:
        assert [column.type for column in copied.columns] == [column.type for column in schema.columns]
