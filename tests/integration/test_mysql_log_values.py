"""Every type of MySQL and MariaDB with its extremes: what the log gives is what a reader gives."""

from __future__ import annotations

import pytest

from tests.integration.mysql_rig import Rig, afters
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Kind

_LAX = "SET sql_mode = ''"
_COMMON = {
    "i8": ("TINYINT", ["-128", "0", "127"]),
    "u8": ("TINYINT UNSIGNED", ["0", "255"]),
    "flag": ("TINYINT(1)", ["0", "1", "-7"]),
    "i16": ("SMALLINT", ["-32768", "32767"]),
    "u16": ("SMALLINT UNSIGNED", ["65535"]),
    "i24": ("MEDIUMINT", ["-8388608", "8388607", "-1"]),
    "u24": ("MEDIUMINT UNSIGNED", ["16777215", "0"]),
    "i32": ("INT", ["-2147483648", "2147483647"]),
    "u32": ("INT UNSIGNED", ["4294967295"]),
    "i64": ("BIGINT", ["-9223372036854775808", "9223372036854775807"]),
    "u64": ("BIGINT UNSIGNED", ["18446744073709551615"]),
    "f32": ("FLOAT", ["0.1", "-3.4028234e38", "1.17549435e-38", "0", "16777217"]),
    "f64": ("DOUBLE", ["0.1", "-1.7976931348623157e308", "5e-324", "1e15", "-0e0"]),
    "d1": ("DECIMAL(65,30)", ["99999999999999999999999999999999999.999999999999999999999999999999", "-0.1", "0"]),
    "d2": ("DECIMAL(10,0)", ["-9999999999", "7"]),
    "d3": ("DECIMAL(5,5)", ["0.00001", "-0.99999"]),
    "d4": ("DECIMAL(18,9)", ["123456789.000000001", "-1.000000010"]),
    "bits": ("BIT(1)", ["b'1'", "b'0'"]),
    "bits64": ("BIT(64)", ["b'1'", f"b'{'1' * 64}'", "b'0'"]),
    "bits9": ("BIT(9)", ["b'100000001'"]),
    "y": ("YEAR", ["1901", "2155", "0000"]),
    "day": ("DATE", ["'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-00-00'"]),
    "t0": ("TIME", ["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'"]),
    "t3": ("TIME(3)", ["'12:34:56.700'", "'-12:34:56.001'", "'-00:00:00.5'"]),
    "t6": ("TIME(6)", ["'838:59:58.999999'", "'-838:59:58.999999'", "'-00:00:00.000001'"]),
    "dt0": ("DATETIME", ["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'0000-00-00 00:00:00'"]),
    "dt1": ("DATETIME(1)", ["'2024-02-29 12:34:56.7'"]),
    "dt6": ("DATETIME(6)", ["'2024-02-29 12:34:56.000001'", "'0001-01-01 00:00:00.1'"]),
    "ts0": ("TIMESTAMP NULL", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"]),
    "ts4": ("TIMESTAMP(4) NULL", ["'2024-02-29 12:34:56.7891'"]),
    "ts6": ("TIMESTAMP(6) NULL", ["'2038-01-19 03:14:07.999999'", "'1970-01-01 00:00:01.000001'"]),
    "c": ("CHAR(10)", ["'trailing  '", "''", "'é漢🙂'"]),
    "c255": ("CHAR(255)", ["repeat('漢', 255)"]),
    "v": ("VARCHAR(100)", ["'a\\0b'", "' \\n'", "'é漢🙂'"]),
    "v16": ("VARCHAR(3000)", ["repeat('x', 3000)"]),
    "v_latin1": ("VARCHAR(20) CHARACTER SET latin1", ["'é€ÿ'", "_latin1 x'818d8f909d'"]),
    "v_latin2": ("VARCHAR(20) CHARACTER SET latin2", ["'łáž'"]),
    "v_koi8r": ("VARCHAR(20) CHARACTER SET koi8r", ["'Привет'"]),
    "v_utf8mb3": ("VARCHAR(20) CHARACTER SET utf8mb3", ["'é漢'"]),
    "v_utf16": ("VARCHAR(20) CHARACTER SET utf16", ["'é🙂'"]),
    "v_ucs2": ("VARCHAR(20) CHARACTER SET ucs2", ["'é漢'"]),
    "v_ascii": ("VARCHAR(20) CHARACTER SET ascii", ["'plain'"]),
    "v_ci": ("VARCHAR(20) COLLATE utf8mb4_general_ci", ["'MiXeD'"]),
    "tiny": ("TINYTEXT", ["'t'"]),
    "body": ("TEXT", ["''", "repeat('y', 60000)"]),
    "medium": ("MEDIUMTEXT", ["repeat('漢', 70000)"]),
    "long_": ("LONGTEXT", ["'l'"]),
    "b5": ("BINARY(5)", ["x'4100'", "x''", "x'0000000001'", "x'ffffffffff'"]),
    "vb": ("VARBINARY(300)", ["x'00ff00'", "x''", "repeat(x'00', 300)"]),
    "blob_": ("BLOB", ["x'00'", "repeat(x'ff', 60000)"]),
    "longblob_": ("LONGBLOB", ["x'010203'"]),
    "e": ("ENUM('one','it''s','é','')", ["'one'", "'it''s'", "'é'", "'unknown'", "''"]),
    "s": ("SET('a','b','c','d','e','f','g','h','i')", ["'a,i'", "''", "'a,b,c,d,e,f,g,h,i'"]),
    "j": ("JSON", ["'null'", '\'[1, 2.5, "x", {"a": null}]\'', "'\"\\\\u0001é\"'"]),
    "g": ("GEOMETRY", ["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326)"]),
}
_ONLY = {
    "mariadb": {
        "uuid_": ("UUID", ["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"]),
        "inet6_": ("INET6", ["'::'", "'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'", "'1:0:0:2::3'"]),
        "inet4_": ("INET4", ["'0.0.0.0'", "'255.255.255.255'"]),
    },
    "mysql": {
        "doc": (
            "JSON",
            [
                "JSON_OBJECT('b', 1, 'aa', 1.0, 'd', 18446744073709551615, 'n', -9223372036854775808)",
                "JSON_ARRAY(1e20, 1e15, 123456789012345678, 0.0001, 1e-15, -0e0, 1.5e300, 12.50)",
                "JSON_ARRAY(CAST('12.50' AS DECIMAL(10,2)), CAST('2024-02-29' AS DATE))",
                "JSON_ARRAY(CAST('-12:34:56.5' AS TIME(6)), CAST('2024-02-29 12:34:56' AS DATETIME))",
                "JSON_ARRAY(CAST(x'00ff' AS BINARY), true, false, NULL)",
                "JSON_OBJECT('big', REPEAT('x', 70000), 'small', JSON_ARRAY(1, -1, 65536, -65536))",
                "JSON_OBJECT('quote\"', 'back\\\\slash', '\\t', '\\n\\r\\b\\f')",
            ],
        ),
        "vec": ("VECTOR(3)", ["to_vector('[1,-2,0.1]')"]),
        "hidden": ("INT INVISIBLE", ["5"]),
    },
}


@pytest.fixture(params=["mariadb_source", "mysql_source"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.getfixturevalue(request.param))


def test_the_stream_and_the_reader_agree_on_every_type(rig: Rig) -> None:
    columns = _COMMON | _ONLY["mariadb" if rig.is_mariadb else "mysql"]
    definitions = ", ".join(f"{name} {type_}" for name, (type_, _) in columns.items())
    rig.run(f"CREATE TABLE extremes (id INT PRIMARY KEY, {definitions}) ROW_FORMAT=DYNAMIC")
    rig.begin("extremes")
    height = max(len(values) for _, values in columns.values())
    with rig.session() as session:
        session.execute(_LAX)
        session.execute("INSERT INTO extremes (id) VALUES (0)")
        for number in range(height):
            row = ", ".join(values[number % len(values)] for _, values in columns.values())
            session.execute(f"INSERT INTO extremes (id, {', '.join(columns)}) VALUES ({number + 1}, {row})")
    changes, schemas = rig.changes(height + 1)
    schema, rows = rig.current("extremes")
    assert schemas[changes[0].table] == schema
    for place, column in enumerate(schema.columns):
        logged = [after[place] for after in afters(changes) if after]
        assert logged == [row[place] for row in rows], column
        assert list(map(type, logged)) == [type(row[place]) for row in rows], column


def test_an_update_brings_both_rows_of_every_type(rig: Rig) -> None:
    rig.run("CREATE TABLE pairs (id INT PRIMARY KEY, a INT, b VARCHAR(10), c DECIMAL(5,2), d DATETIME(3))")
    rig.begin("pairs")
    rig.run(
        "INSERT INTO pairs VALUES (1, NULL, 'x', NULL, '2024-01-01')",
        "UPDATE pairs SET a = 1, b = NULL, c = -1.50, d = NULL",
        "DELETE FROM pairs",
    )
    changes, _ = rig.changes(3)
    old, new = (1, None, "x", None, "2024-01-01 00:00:00"), (1, 1, None, "-1.50", None)
    assert [(change.before, change.after) for change in changes] == [(None, old), (old, new), (new, None)]


def test_generated_columns_are_left_out(rig: Rig) -> None:
    rig.run(
        "CREATE TABLE made (id INT PRIMARY KEY, a INT, b INT AS (a + 1) STORED, c VARCHAR(20) AS (concat('v', a)) "
        "VIRTUAL, d INT)"
    )
    rig.begin("made")
    rig.run("INSERT INTO made (id, a, d) VALUES (1, 2, 3)", "UPDATE made SET a = 5")
    changes, schemas = rig.changes(2)
    assert schemas[changes[0].table].column_names == ("id", "a", "d")
    assert afters(changes) == [(1, 2, 3), (1, 5, 3)]
    assert schemas[changes[0].table] == rig.current("made")[0]


def test_a_table_without_a_primary_key_is_identified_by_a_unique_index(rig: Rig) -> None:
    rig.run("CREATE TABLE uniquely (a INT, b INT NOT NULL, c VARCHAR(10) NOT NULL, UNIQUE KEY (c, b))")
    rig.begin("uniquely")
    rig.run("INSERT INTO uniquely VALUES (1, 2, 'x')", "UPDATE uniquely SET b = 3", "DELETE FROM uniquely")
    changes, schemas = rig.changes(3)
    assert schemas[changes[0].table].key == ("c", "b")
    assert [change.key for change in changes] == [None, ("x", 2), ("x", 3)]


def test_a_composite_primary_key_keeps_the_order_of_its_index(rig: Rig) -> None:
    rig.run("CREATE TABLE composite (a INT, b VARCHAR(10), c INT, PRIMARY KEY (c, a))")
    rig.begin("composite")
    rig.run("INSERT INTO composite VALUES (1, 'x', 2)", "DELETE FROM composite")
    changes, schemas = rig.changes(2)
    assert schemas[changes[0].table].key == ("c", "a")
    assert changes[1].key == (2, 1)


def test_a_character_set_that_cannot_be_read_halts_by_name(rig: Rig) -> None:
    rig.run("CREATE TABLE asian (id INT PRIMARY KEY, v VARCHAR(10) CHARACTER SET sjis)")
    rig.begin("asian")
    rig.run("INSERT INTO asian VALUES (1, 'x')")
    with pytest.raises(Halt, match="column v has a character set") as halt, rig.following() as follower:
        follower.read_changes(1)
    assert halt.value.state is State.TABLE_UNSUPPORTED


def test_json_of_mariadb_is_json(mariadb_source: str) -> None:
    rig = Rig(mariadb_source)
    rig.run("CREATE TABLE documents (id INT PRIMARY KEY, j JSON, t LONGTEXT)")
    rig.begin("documents")
    rig.run("""INSERT INTO documents VALUES (1, '{"b":1,  "a": 2}', 'text')""")
    changes, schemas = rig.changes(1)
    kinds = [column.type.kind for column in schemas[changes[0].table].columns]
    assert kinds == [Kind.INT, Kind.JSON, Kind.TEXT]
    assert afters(changes) == [(1, '{"b":1,  "a": 2}', "text")]
