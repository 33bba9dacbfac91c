"""What the targets' own drivers must give for some samples: a witness beside our own readers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import Binary, Decimal128

#: By the target's engine.
Expected = dict[str, Any]

_UUID: Final = UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
_NOON: Final = datetime(2024, 2, 29, 12, 34, 56, 789000)  # noqa: DTZ001 - as drivers give it
_SPACED: Final = "ARRAY[E'\\u00a0 x', E'\\u00a0a\\u00a0', E'\\u2003b', E'\\x1cc\\x1f', E'd\\u0085']"


def _all(value: Any) -> Expected:
    return dict.fromkeys(("postgresql", "mysql", "mongodb"), value)


#: By the source's engine, the type and the literal.
WITNESSES: Final[dict[str, dict[tuple[str, str], Expected]]] = {
    "postgresql": {
        ("boolean", "true"): {"postgresql": True, "mysql": 1, "mongodb": True},
        ("bigint", "9007199254740993"): _all(9007199254740993),
        ("numeric(12,2)", "-0.01"): _all(Decimal("-0.01")) | {"mongodb": Decimal128("-0.01")},
        ("numeric", "0.00"): {"postgresql": Decimal("0.00"), "mysql": "0.00", "mongodb": Decimal128("0.00")},
        ("text", "'é漢🙂'"): _all("é漢🙂"),
        ("text", "' spaces at both ends  '"): _all(" spaces at both ends  "),
        ("character(10)", "' a  '"): _all(" a        "),
        ("bytea", r"'\x00'"): _all(b"\0"),
        ("uuid", f"'{_UUID}'"): {"postgresql": _UUID, "mysql": str(_UUID), "mongodb": Binary(_UUID.bytes, 4)},
        ("date", "'2024-02-29'"): _all(date(2024, 2, 29)) | {"mongodb": datetime(2024, 2, 29)},  # noqa: DTZ001
        ("timestamp(3) without time zone", "'2024-02-29 12:34:56.789'"): _all(_NOON),
        ("timestamp with time zone", "'2024-01-01 00:00:00+14'"): {
            "postgresql": datetime(2023, 12, 31, 10, tzinfo=UTC),
            "mysql": datetime(2023, 12, 31, 10),  # noqa: DTZ001
            "mongodb": "2023-12-31 10:00:00+00",
        },
        ("jsonb", "'[[], {}, null]'"): _all([[], {}, None]) | {"mysql": "[[], {}, null]"},
        ("json", "'null'"): {"mysql": "null", "mongodb": {"@json": None}},
        ("integer[]", "'{{1,2},{3,4}}'"): _all([[1, 2], [3, 4]]) | {"mysql": "{{1,2},{3,4}}"},
        ("text[]", _SPACED): _all(["\u00a0 x", "\u00a0a\u00a0", "\u2003b", "\x1cc\x1f", "d\u0085"])
        | {"mysql": '{"\u00a0 x",\u00a0a\u00a0,\u2003b,\x1cc\x1f,d\u0085}'},
        ("box[]", "'{(2,2),(1,1);(4,4),(3,3)}'"): {
            "mysql": "{(2,2),(1,1);(4,4),(3,3)}", "mongodb": "{(2,2),(1,1);(4,4),(3,3)}",
        },
    },
    "mysql": {
        ("bigint unsigned", "18446744073709551615"): {
            "postgresql": Decimal(2**64 - 1), "mysql": 2**64 - 1, "mongodb": Decimal128(str(2**64 - 1)),
        },
        ("bit(64)", "b'1'"): _all("1".rjust(64, "0")) | {"mysql": b"\x01".rjust(8, b"\0")},
        ("time", "'838:59:59'"): {"mysql": timedelta(hours=838, minutes=59, seconds=59), "mongodb": "838:59:59"},
        ("datetime(6)", "'0000-00-00'"): {"mongodb": "0000-00-00 00:00:00"},
        ("binary(5)", "x'4100'"): _all(b"A\0\0\0\0"),
        ("blob", "x'eda080'"): _all(b"\xed\xa0\x80"),
        ("set('a','b','c')", "'c,a'"): _all("a,c"),
        ("varchar(30)", "'a\\0b'"): {"mysql": "a\0b", "mongodb": "a\0b"},
        ("char(10)", "' x  '"): _all(" x"),
    },
    "mongodb": {
        ("int", "0"): {"mongodb": 0},
        ("decimal", "Decimal128('-12.50')"): {"mongodb": Decimal128("-12.50")},
        ("string", "'a\\0b'"): {"mongodb": "a\0b"},
    },
}  # fmt: skip
