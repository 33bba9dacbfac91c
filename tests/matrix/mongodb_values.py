"""Values of the BSON types, as expressions of Python for a document's field `v`."""

from __future__ import annotations

from typing import Any, Final

from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UUID_SUBTYPE

from connectors.matrix import Extreme
from tests.matrix.samples import Values

#: What the expressions below name.
NAMES: Final[dict[str, Any]] = {
    "Binary": Binary, "Code": Code, "DatetimeMS": DatetimeMS, "DBRef": DBRef, "Decimal128": Decimal128, "Int64": Int64,
    "MaxKey": MaxKey, "MinKey": MinKey, "ObjectId": ObjectId, "Regex": Regex, "Timestamp": Timestamp,
    "UUID_SUBTYPE": UUID_SUBTYPE,
}  # fmt: skip


def _deep(template: str) -> dict[Extreme, list[str]]:
    return {Extreme.DEPTH_31: [template.format(40)], Extreme.DEPTH_100: [template.format(120)]}


VALUES: Final[dict[str, Values]] = {
    "double": Values(
        ["0.0", "-0.0", "1.0", "0.1", "5e-324", "1.7976931348623157e308", "float('nan')", "float('inf')",
         "-float('inf')", "1e15", "1e16", "9007199254740993.0"]
    ),
    "string": Values(["''", "' x '", "'a\\0b'", "'é漢🙂'", "'\\x01\\\\\\\"\\n'", "'{\"$oid\": 1}'", "'x' * 100_000"]),
    "object": Values(
        ["{}", "{'b': 1, 'a': {'': None}}", "{'$oid': 'x'}", "{'@json': 1}", "{'@json': {'@json': {}}}",
         "{'$numberLong': '5', 'x': 1}", "DBRef('c', 1)", "{'$date': 1}", "{'é漢🙂.x': 1}"],
        _deep("eval(\"{{'a': \" * {0} + '1' + '}}' * {0})"),
    ),
    "array": Values(["[]", "[1, None, 'x', [1.0, [Int64(1)]]]"], _deep("eval('[' * {0} + ']' * {0})")),
    "binData": Values(
        ["b''", "b'\\0\\xff'", "Binary(b'x' * 16, UUID_SUBTYPE)", "Binary(b'a', 0x80)", "Binary(b'a', 2)"]
    ),
    "objectId": Values(["ObjectId('0' * 24)", "ObjectId('f' * 24)"]),
    "bool": Values(["True", "False"]),
    "date": Values(["DatetimeMS(0)", "DatetimeMS(-1)", "DatetimeMS(1709210096789)", "DatetimeMS(253402300799999)",
                    "DatetimeMS(253402300800000)", "DatetimeMS(-2**63)", "DatetimeMS(2**63 - 1)"]),
    "null": Values(["None"]),
    "regex": Values(["Regex('^a\\\\/', 'im')", "Regex('')"]),
    "javascript": Values(["Code('x < \"1\"')"]),
    "javascriptWithScope": Values(["Code('x', {'a': Int64(1)})"]),
    "int": Values(["-2**31", "0", "2**31 - 1"]),
    "timestamp": Values(["Timestamp(1, 2)", "Timestamp(2**32 - 1, 2**32 - 1)"]),
    "long": Values(["Int64(0)", "Int64(-2**63)", "Int64(2**63 - 1)"]),
    "decimal": Values(
        [f"Decimal128('{number}')" for number in
         ("0", "-0", "0E+3", "-12.50", "1E+6144", "9.999999999999999999999999999999999E+6144", "1E-6176", "NaN",
          "Infinity", "-Infinity")]
    ),
    "minKey": Values(["MinKey()"]),
    "maxKey": Values(["MaxKey()"]),
}  # fmt: skip
