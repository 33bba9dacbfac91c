"""What PostgreSQL has of its own: values, identities, generated and dropped columns, partitions, names."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from connectors.postgres.source import PostgresSource
from tests.contract.source_engine import following
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.change import Change
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED

T = TableName("public", "t")
LARGE = "x" * 100_000


class Database:
    """An empty database with a source on it."""

    def __init__(self, url: str, conn: psycopg.Connection) -> None:
        self.url = url
        self.source = PostgresSource("db", url)
        self._conn = conn
        self._start = ""

    def run(self, *statements: str) -> None:
        for statement in statements:
            self._conn.execute(statement.encode())

    def capture(self, *tables: TableName) -> None:
        self._start = self.source.create_stream(tables or [T]).commit

    def changes(self, count: int) -> tuple[list[Change], dict[int, TableSchema]]:
        """The next changes of the stream, from where it was created."""
        with following(self.source, self._start) as follower:
            return [change for _, change in follower.read_changes(count)], follower.stream.schemas


@pytest.fixture(params=["postgres", "postgres15"])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue(request.param)
    with new_database(server, "source") as url, psycopg.connect(url, autocommit=True) as conn:
        yield Database(url, conn)


def with_large_column(db: Database, identity: str) -> None:
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, large text)",
        "ALTER TABLE t ALTER large SET STORAGE EXTERNAL",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
        f"INSERT INTO t VALUES (1, 0, '{LARGE}')",
    )
    db.capture()


def test_a_large_column_that_an_update_left_alone_is_unchanged_and_not_null(db: Database) -> None:
    with_large_column(db, "DEFAULT")
    db.run("UPDATE t SET n = 1", "UPDATE t SET id = 2", "UPDATE t SET large = NULL")
    changes, _ = db.changes(3)
    assert [(change.key, change.after) for change in changes] == [
        (None, (1, 1, UNCHANGED)),
        ((1,), (2, 1, UNCHANGED)),
        (None, (2, 1, None)),
    ]


def test_with_replica_identity_full_rows_are_complete_and_have_a_before(db: Database) -> None:
    with_large_column(db, "FULL")
    db.run("UPDATE t SET n = 1", "UPDATE t SET id = 2", "DELETE FROM t")
    changes, schemas = db.changes(3)
    assert schemas[changes[0].table].key == ("id",)
    assert [(change.op, change.key, change.before, change.after) for change in changes] == [
        ("u", None, (1, 0, LARGE), (1, 1, LARGE)),
        ("u", (1,), (1, 1, LARGE), (2, 1, LARGE)),
        ("d", (2,), (2, 1, LARGE), None),
    ]


def test_the_key_is_the_replica_identity_index_where_one_is_chosen(db: Database) -> None:
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
    )
    db.capture()
    db.run("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET code = 'b'", "DELETE FROM t")
    changes, schemas = db.changes(3)
    with db.source.reader() as reader:
        assert reader.schema(T) == schemas[changes[0].table]
    assert schemas[changes[0].table].key == ("code",)
    assert [change.key for change in changes] == [None, ("a",), ("b",)]


def test_a_key_has_the_order_of_its_index_in_stream_and_table(db: Database) -> None:
    db.run("CREATE TABLE t (a int, v text, b int, PRIMARY KEY (b, a))", "INSERT INTO t VALUES (1, 'v', 2)")
    db.capture()
    db.run("UPDATE t SET a = 5")
    changes, schemas = db.changes(1)
    with db.source.reader() as reader:
        assert reader.schema(T) == schemas[changes[0].table]
    assert schemas[changes[0].table].key == ("b", "a")
    assert changes[0].key == (2, 1)


def test_generated_and_dropped_columns_do_not_appear(db: Database) -> None:
    db.run(
        "CREATE TABLE t (gone text, id int PRIMARY KEY, double int GENERATED ALWAYS AS (id * 2) STORED, name text)",
        "ALTER TABLE t DROP gone",
    )
    db.capture()
    db.run("INSERT INTO t (id, name) VALUES (1, 'one')")
    changes, schemas = db.changes(1)
    with db.source.reader() as reader:
        schema = reader.schema(T)
        assert schema == schemas[changes[0].table]
        assert reader.chunk(schema, None, 10).rows == [(1, "one")] == [changes[0].after]
    assert schema.column_names == ("id", "name")


def test_a_changed_definition_is_a_new_table_id_and_an_unchanged_one_is_not(db: Database) -> None:
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    db.capture()
    db.run(
        "INSERT INTO t VALUES (1)",
        # The server describes the table again after this.
        "ALTER TABLE t SET (fillfactor = 90)",
        "INSERT INTO t VALUES (2)",
        "ALTER TABLE t ADD note text DEFAULT 'none'",
        "INSERT INTO t VALUES (3)",
        "ALTER TABLE t RENAME note TO remark",
        "INSERT INTO t VALUES (4)",
    )
    changes, schemas = db.changes(4)
    assert [change.after for change in changes] == [(1,), (2,), (3, "none"), (4, "none")]
    ids = [change.table for change in changes]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert [schemas[table].column_names for table in dict.fromkeys(ids)] == [
        ("id",),
        ("id", "note"),
        ("id", "remark"),
    ]


INTEGER = Type(Kind.INT, "integer", size=32)
MOOD = Type(Kind.ENUM, 'odd."Mood"', labels=("sad", "so so"))
VALUES = [
    ("bool", "true", True, Type(Kind.BOOL, "boolean")),
    ("int2", "-32768", -32768, Type(Kind.INT, "smallint", size=16)),
    ("int8", "9223372036854775807", 9223372036854775807, Type(Kind.INT, "bigint", size=64)),
    ("float4", "0.1", 0.1, Type(Kind.FLOAT, "real", size=32)),
    ("float8", "'-Infinity'", float("-inf"), Type(Kind.FLOAT, "double precision", size=64)),
    ("float8", "1e-310", 1e-310, Type(Kind.FLOAT, "double precision", size=64)),
    ("numeric", "'NaN'", "NaN", Type(Kind.DECIMAL, "numeric")),
    ("numeric", "'Infinity'", "Infinity", Type(Kind.DECIMAL, "numeric")),
    ("numeric(6,2)", "-12.5", "-12.50", Type(Kind.DECIMAL, "numeric(6,2)", precision=6, scale=2)),
    ("numeric(3,-2)", "12345", "12300", Type(Kind.DECIMAL, "numeric(3,-2)", precision=3, scale=-2)),
    ("numeric", "1e40 + 1e-20", f"1{'0' * 40}.{'0' * 19}1", Type(Kind.DECIMAL, "numeric")),
    ("varchar(5)", "'tab\t\\'", "tab\t\\", Type(Kind.TEXT, "character varying(5)", size=5)),
    ("char(4)", "'ab'", "ab  ", Type(Kind.TEXT, "character(4)", size=4)),
    ("text", "E'line\\n\U0001f600'", "line\n\U0001f600", Type(Kind.TEXT, "text")),
    ("bytea", "'\\x00ff5c'", b"\x00\xff\\", Type(Kind.BYTES, "bytea")),
    ("date", "'0044-03-15 BC'", "0044-03-15 BC", Type(Kind.DATE, "date")),
    ("date", "'infinity'", "infinity", Type(Kind.DATE, "date")),
    ("time(3)", "'24:00'", "24:00:00", Type(Kind.TIME, "time(3) without time zone", precision=3)),
    ("timetz", "'04:05:06.7+05:30'", "04:05:06.7+05:30", Type(Kind.TIMETZ, "time with time zone")),
    ("timestamp", "'294276-12-31 23:59:59.999999'", "294276-12-31 23:59:59.999999", Kind.TIMESTAMP),
    ("timestamptz", "'2024-05-01 12:00+02'", "2024-05-01 10:00:00+00", Kind.TIMESTAMPTZ),
    ("timestamptz", "'-infinity'", "-infinity", Kind.TIMESTAMPTZ),
    ("timestamptz", "'0001-01-01 00:00+00 BC'", "0001-01-01 00:00:00+00 BC", Kind.TIMESTAMPTZ),
    ("interval", "'1 year 2 mons -3 days 04:05:06.7'", "P1Y2M-3DT4H5M6.7S", Type(Kind.INTERVAL, "interval")),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", Kind.UUID),
    ("json", '\'{"b":  1, "a": 2}\'', '{"b":  1, "a": 2}', Type(Kind.JSON, "json")),
    ("jsonb", "'{\"b\":  1.10}'", '{"b": 1.10}', Type(Kind.JSON, "jsonb")),
    ("bit(3)", "B'101'", "101", Type(Kind.BIT, "bit(3)", size=3)),
    ("varbit", "B''", "", Type(Kind.BIT, "bit varying")),
    ('odd."Mood"', "'so so'", "so so", MOOD),
    ("odd.price", "1.5", "1.50", Type(Kind.DECIMAL, "numeric(8,2)", precision=8, scale=2)),
    ("odd.best_price", "1.5", "1.50", Type(Kind.DECIMAL, "numeric(8,2)", precision=8, scale=2)),
    (
        "int4[]",
        "'{{1,NULL},{3,4}}'",
        "{{1,NULL},{3,4}}",
        Type(Kind.ARRAY, "integer[]", element=Type(Kind.INT, "integer", size=32)),
    ),
    ('odd."Mood"[]', "'{\"so so\",sad}'", '{"so so",sad}', Type(Kind.ARRAY, 'odd."Mood"[]', element=MOOD)),
    ("text[]", "ARRAY['a,b', NULL, 'NULL']", '{"a,b",NULL,"NULL"}', Kind.ARRAY),
    ("int4range", "'[1,5)'", "[1,5)", Type(Kind.NATIVE, "int4range")),
    ("inet", "'10.0.0.1'", "10.0.0.1", Type(Kind.NATIVE, "inet")),
    ("int2vector", "'1 2'", "1 2", Type(Kind.NATIVE, "int2vector")),
    ("odd.pair", "ROW(1, 'x,y')", '(1,"x,y")', Type(Kind.NATIVE, "odd.pair")),
    ("regclass", "'odd.home'", "odd.home", Type(Kind.NATIVE, "regclass")),
]


def test_stream_and_table_give_the_same_canonical_value_for_every_type(db: Database) -> None:
    columns = ", ".join(f"c{number} {name}" for number, (name, *_) in enumerate(VALUES))
    db.run(
        "CREATE SCHEMA odd",
        "CREATE TYPE odd.\"Mood\" AS ENUM ('sad', 'so so')",
        "CREATE DOMAIN odd.price AS numeric(8,2) CHECK (VALUE > 0)",
        "CREATE DOMAIN odd.best_price AS odd.price",
        "CREATE TABLE odd.home ()",
        "CREATE TYPE odd.pair AS (a int, b text)",
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
    )
    db.capture()
    db.run(f"INSERT INTO t VALUES (1, {', '.join(literal for _, literal, *_ in VALUES)})")
    changes, schemas = db.changes(1)
    schema = schemas[changes[0].table]
    assert changes[0].after == (1, *(value for *_, value, _ in VALUES))
    with db.source.reader() as reader:
        assert reader.schema(T) == schema
        assert reader.chunk(schema, None, 5).rows == [changes[0].after]
    for column, (_, _, _, expected) in zip(schema.columns[1:], VALUES, strict=True):
        assert expected in (column.type, column.type.kind)


def test_the_rows_of_a_copy_share_a_position_and_stay_apart(db: Database) -> None:
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    db.capture()
    with psycopg.connect(db.url) as conn, conn.cursor().copy("COPY t FROM STDIN") as copy:
        for number in range(5_000):
            copy.write_row((number,))
    changes, _ = db.changes(5_000)
    assert [(change.ordinal, change.after) for change in changes] == [(n + 1, (n,)) for n in range(5_000)]


def test_very_large_rows_come_in_several_pieces(db: Database) -> None:
    db.run("CREATE TABLE t (id int PRIMARY KEY, large text)")
    db.capture()
    db.run("INSERT INTO t SELECT n, repeat('x', 1000000) FROM generate_series(1, 40) n")
    with following(db.source, db._start) as follower:
        follower.read_changes(40)
        assert len(follower.pieces) > 1
        assert [piece.last for piece in follower.pieces][-2:] == [False, True]
        assert max(piece.size for piece in follower.pieces) < 20_000_000
        assert sum(piece.size for piece in follower.pieces) > 40_000_000


def test_a_partitioned_table_streams_as_one(db: Database) -> None:
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (10) TO (20)",
    )
    db.capture()
    db.run("INSERT INTO t VALUES (1, 'low'), (11, 'high')", "INSERT INTO t_low VALUES (2, 'straight in')")
    changes, schemas = db.changes(3)
    assert {schemas[change.table].table for change in changes} == {T}
    assert [change.after for change in changes] == [(1, "low"), (11, "high"), (2, "straight in")]
    assert [schema.table for schema in db.source.tables()] == [T]
    with db.source.reader() as reader:
        assert len(reader.chunk(schemas[changes[0].table], None, 10).rows) == 3


def test_odd_names_of_tables_and_columns_are_no_obstacle(db: Database) -> None:
    odd = TableName('My "own", schema', "Täble; drop.1")
    name = '"My ""own"", schema"."Täble; drop.1"'
    db.run('CREATE SCHEMA "My ""own"", schema"', f'CREATE TABLE {name} ("I d" int PRIMARY KEY, "%s ""x""" text)')
    assert [finding for finding in db.source.preflight([odd]) if not finding.ok] == []
    db.capture(odd)
    db.run(f"INSERT INTO {name} VALUES (1, 'x')")
    changes, schemas = db.changes(1)
    schema = schemas[changes[0].table]
    assert (schema.table, schema.column_names, schema.key) == (odd, ("I d", '%s "x"'), ("I d",))
    with db.source.reader() as reader:
        assert reader.schema(odd) == schema
        assert reader.chunk(schema, (0,), 10).rows == reader.rows(schema, [(1,)]).rows == [(1, "x")]
        assert reader.count(schema) > 0


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (
            "CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)",
            "partitions",
        ),
        ("CREATE TABLE t (id int); CREATE TABLE heir () INHERITS (t)", "heirs"),
        ("CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY NOTHING", "NOTHING"),
        ("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", "NOTHING"),
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "unlogged"),
    ],
)
def test_a_table_whose_rows_the_log_does_not_identify_is_refused_with_the_fix(
    db: Database, definition: str, reason: str
) -> None:
    db.run(*definition.split("; "))
    with pytest.raises(Halt, match=reason) as halt:
        db.capture()
    assert halt.value.state is State.TABLE_UNSUPPORTED
    assert 'ALTER TABLE "public"."t"' in halt.value.recovery
    assert not db.source.stream_status().exists
    failed = [finding for finding in db.source.preflight([T]) if not finding.ok]
    assert [finding.check for finding in failed] == ["key public.t"]


def test_a_table_that_loses_its_key_stops_the_stream(db: Database) -> None:
    db.run("CREATE TABLE t (id int PRIMARY KEY)")
    db.capture()
    db.run("ALTER TABLE t DROP CONSTRAINT t_pkey", "INSERT INTO t VALUES (1)")
    with pytest.raises(Halt) as halt:
        db.changes(1)
    assert halt.value.state is State.TABLE_UNSUPPORTED
    assert "ADD PRIMARY KEY" in halt.value.recovery


def test_tables_of_worker_sync_itself_are_not_listed(db: Database) -> None:
    db.run("CREATE SCHEMA worker_sync", "CREATE TABLE worker_sync.watermarks (id int PRIMARY KEY)")
    db.run("CREATE TABLE public.t (id int)", "CREATE VIEW public.v AS SELECT 1", "CREATE TEMP TABLE tmp (id int)")
    assert [(schema.table, schema.key) for schema in db.source.tables()] == [(T, ())]


def test_another_database_has_another_identity(db: Database, source_db: str) -> None:
    assert db.source.identity() != PostgresSource("db", source_db).identity()
