"""Values of MySQL's and MariaDB's types, as SQL for a session without strict mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connectors.matrix import Extreme
from tests.matrix.samples import Values

_NUL: Final[dict[Extreme, Sequence[str]]] = {Extreme.NUL: ["'a\\0b'", "'\\0'"]}
_FLOATS: Final[dict[Extreme, Sequence[str]]] = {Extreme.NEGATIVE_ZERO: ["-0e0"]}
_ZERO_DATES: Final = ["'0000-00-00'", "'2024-00-00'", "'2024-02-00'", "'0000-01-01'"]
_DATES: Final[dict[Extreme, Sequence[str]]] = {Extreme.ZERO_DATE: _ZERO_DATES}
_TEXTS: Final = [
    "''",
    "' '",
    "' x  '",
    "'é漢🙂'",
    "'A'",
    "'a'",
    "'\\\\N'",
    "'\\t\\n\\r\\\\'",
    "'it''s \"q\" `b` $1 %s'",
]
_POINT: Final = "ST_GeomFromText('POINT(1 -2.5)')"
_POLYGON: Final = "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326)"
_MOMENTS: Final = ["'1000-01-01 00:00:00'", "'0001-01-01'", "'1969-12-31 23:59:59'", "'2024-02-29 12:34:56'"]

VALUES: Final[dict[str, Values]] = {
    "tinyint": Values(["-128", "0", "127"]),
    "smallint": Values(["-32768", "32767"]),
    "mediumint": Values(["-8388608", "8388607"]),
    "int": Values(["-2147483648", "2147483647"]),
    "bigint": Values(["-9223372036854775808", "9223372036854775807"]),
    "tinyint unsigned": Values(["0", "255"]),
    "smallint unsigned": Values(["65535"]),
    "mediumint unsigned": Values(["16777215"]),
    "int unsigned": Values(["4294967295"]),
    "bigint unsigned": Values(["0", "9223372036854775807", "9223372036854775808", "18446744073709551615"]),
    "tinyint(1)": Values(["0", "1", "-7"]),
    "year": Values(["1901", "2155", "0000"]),
    "float": Values(["0", "0.1", "-3.4028234e38", "1.17549435e-38", "16777217", "1e-45"], _FLOATS),
    "double": Values(["0", "0.1", "-1.7976931348623157e308", "5e-324", "1e15", "9007199254740993"], _FLOATS),
    "decimal(12,2)": Values(["9999999999.99", "-0.01", "0", "-0.00"]),
    "decimal(10,0) unsigned": Values(["9999999999"]),
    "decimal(65,30)": Values(
        ["0", "-0.000000000000000000000000000001", "9999.5"],
        {Extreme.DIGITS: ["99999999999999999999999999999999999.999999999999999999999999999999", "-12345.1"]},
    ),
    "bit(1)": Values(["b'0'", "b'1'"]),
    "bit(64)": Values([f"b'{'1' * 64}'", "b'1'", "b'0'"]),
    "char(10)": Values(_TEXTS[:6], _NUL),
    "varchar(30)": Values([*_TEXTS, "repeat('🙂', 30)"], _NUL),
    "tinytext": Values([*_TEXTS, "repeat('x', 255)"], _NUL),
    "text": Values([*_TEXTS, "repeat('漢', 20000)"], _NUL),
    "mediumtext": Values([*_TEXTS, "repeat('漢', 70000)"], _NUL),
    "longtext": Values(_TEXTS, _NUL),
    "varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci": Values(["'é€ÿ'", "'e'", "'E '"]),
    "enum('one','it''s','é')": Values(["'one'", "'it''s'", "'é'"], {Extreme.EMPTY_LABEL: ["'unknown'"]}),
    "set('a','b','c')": Values(["''", "'a'", "'c,a'"]),
    "binary(5)": Values(["x''", "x'4100'", "x'0000000001'", "x'ffffffffff'", "x'2020'"]),
    "varbinary(300)": Values(["x''", "x'00'", "x'2000'", "x'275c22'", "repeat(x'00', 300)"]),
    "tinyblob": Values(["x''", "x'00ff'"]),
    "blob": Values(["x'00'", "repeat(x'ff', 60000)", "x'eda080'"]),
    "mediumblob": Values(["x'c3a9'"]),
    "longblob": Values(["x'010203'"]),
    "geometry": Values([_POINT, _POLYGON, "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2))')"]),
    "point": Values([_POINT]),
    "polygon": Values([_POLYGON]),
    "vector(3)": Values(["to_vector('[1,-2,0.1]')"]),
    "date": Values(["'0001-01-01'", "'1000-01-01'", "'2024-02-29'", "'9999-12-31'"], _DATES),
    "time": Values(["'00:00:00'", "'23:59:59'"], {Extreme.OUTSIDE_DAY: ["'838:59:59'", "'-838:59:59'", "'-00:00:01'"]}),
    "time(6)": Values(
        ["'00:00:00.000001'", "'23:59:59.999999'", "'12:00:00.5'"],
        {Extreme.OUTSIDE_DAY: ["'838:59:58.999999'", "'-00:00:00.000001'", "'24:00:00.5'"]},
    ),
    "datetime": Values([*_MOMENTS, "'9999-12-31 23:59:59'"], _DATES),
    "datetime(3)": Values([*_MOMENTS, "'2024-02-29 12:34:56.789'", "'9999-12-31 23:59:59.999'"], _DATES),
    "datetime(6)": Values([*_MOMENTS, "'2024-02-29 12:34:56.000001'", "'9999-12-31 23:59:59.999999'"], _DATES),
    "timestamp": Values(["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"], {Extreme.ZERO_DATE: ["'0000-00-00'"]}),
    "timestamp(6)": Values(
        ["'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'"], {Extreme.ZERO_DATE: ["'0000-00-00'"]}
    ),
    "json": Values(
        [
            "'null'", "'true'", "'[1, 2.5, \"x\", {\"a\": null}]'", "'18446744073709551615'", "'1e100'", "'1.0'",
            "'\"\\\\u0001é🙂\"'", "'{\"b\": 1, \"a\": 1.50}'", "JSON_ARRAY(CAST('12.50' AS DECIMAL(10,2)))",
            "'{\"@json\": {\"$oid\": 1}}'", "'\"\\\\u0000\"'",
            "JSON_ARRAY(-0e0, 5e-324, 123456789.123456789e0, -9223372036854775808)", "'[\"12345678901234567890.123\"]'",
        ],
        {
            Extreme.KEY_TWICE: ["'{\"a\": 1, \"a\": 2}'"],
            Extreme.NUL_IN_KEY: ["'{\"a\\\\u0000b\": 1}'"],
            Extreme.DIGITS: ["JSON_ARRAY(CAST(repeat('9', 40) AS DECIMAL(65,0)))"],
            Extreme.PRECISE_IN_JSON: [
                "JSON_ARRAY(CAST('1.23456789012345678' AS DECIMAL(30,17)))",
                "JSON_OBJECT('a', CAST('18446744073709551617' AS DECIMAL(30,0)))",
            ],
            Extreme.HUGE_IN_JSON: ["'1e400'"],
            Extreme.DEPTH_31: ["concat(repeat('[', 32), repeat(']', 32))"],
        },
    ),
    "uuid": Values(["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"]),
    "inet4": Values(["'0.0.0.0'", "'255.255.255.255'"]),
    "inet6": Values(["'::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'"]),
}  # fmt: skip
