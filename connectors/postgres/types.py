"""PostgreSQL's types as `worker_sync.core.schema.Type`, and its text forms as canonical values.

The server prints every value as text (see `conn.SETTINGS`); most canonical values are that very text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection
from psycopg.rows import TupleRow

from worker_sync.core.schema import Kind, TableSchema, Type

#: Text form -> canonical value; None where they are the same.
Converter = Callable[[str], Any] | None
#: A column's type: OID and type modifier (-1: none).
TypeRef = tuple[int, int]

_NO_PRECISION: Final = 0xFFFF

_KINDS: Final[Mapping[int, tuple[Kind, int | None]]] = {
    16: (Kind.BOOL, None),
    17: (Kind.BYTES, None),
    19: (Kind.TEXT, 63),
    20: (Kind.INT, 64),
    21: (Kind.INT, 16),
    23: (Kind.INT, 32),
    25: (Kind.TEXT, None),
    114: (Kind.JSON, None),
    700: (Kind.FLOAT, 32),
    701: (Kind.FLOAT, 64),
    1042: (Kind.TEXT, None),
    1043: (Kind.TEXT, None),
    1082: (Kind.DATE, None),
    1083: (Kind.TIME, None),
    1114: (Kind.TIMESTAMP, None),
    1184: (Kind.TIMESTAMPTZ, None),
    1186: (Kind.INTERVAL, None),
    1266: (Kind.TIMETZ, None),
    1560: (Kind.BIT, None),
    1562: (Kind.BIT, None),
    1700: (Kind.DECIMAL, None),
    2950: (Kind.UUID, None),
    3802: (Kind.JSON, None),
}
_WITH_LENGTH: Final = {1042, 1043}
_TEMPORAL: Final = {Kind.TIME, Kind.TIMETZ, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}


@dataclass(frozen=True, slots=True)
class _CatalogType:
    """A row of pg_type; `base` of a domain, `element` of a true array, else 0."""

    name: str
    base: int
    base_typmod: int
    element: int
    labels: tuple[str, ...]


# An array type is one that its element type names as its array type: int2vector has elements, but is none. Arrays of
# boxes have a delimiter of their own, which no other engine could read: they are native.
_TYPES_SQL: Final = """
WITH RECURSIVE needed(oid) AS (
    SELECT unnest(%s::oid[])
  UNION
    SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END
    FROM needed JOIN pg_type t ON t.oid = needed.oid
    LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid AND e.typdelim = ','
    WHERE t.typtype = 'd' OR e.oid IS NOT NULL
)
SELECT t.oid::bigint, t.typname::text,
       CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END::bigint, t.typtypmod, coalesce(e.oid, 0)::bigint,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder)
FROM needed JOIN pg_type t ON t.oid = needed.oid
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid AND e.typdelim = ','
"""


def load_types(conn: Connection[TupleRow], refs: Iterable[TypeRef]) -> dict[TypeRef, Type]:
    """The types with these OIDs and modifiers; one that has been dropped since is native and nameless.

    Raises psycopg.Error.
    """
    wanted = list(dict.fromkeys(refs))
    rows = conn.execute(_TYPES_SQL, ([oid for oid, _ in wanted],)).fetchall()
    catalog = {oid: _CatalogType(name, base, mod, elem, tuple(labels)) for oid, name, base, mod, elem, labels in rows}
    resolved = {ref: _resolve(catalog, ref) for ref in wanted}
    elements = {ref: _element(catalog, ref) for ref in resolved.values()}
    names = _names(conn, [*resolved.values(), *(ref for ref in elements.values() if ref)])
    return {ref: _type(catalog, names, base) for ref, base in resolved.items()}


def _resolve(catalog: Mapping[int, _CatalogType], ref: TypeRef) -> TypeRef:
    """The type under a domain, with the modifier that the domain gives it."""
    oid, typmod = ref
    while (entry := catalog.get(oid)) is not None and entry.base:
        oid, typmod = entry.base, entry.base_typmod
    return oid, typmod


def _element(catalog: Mapping[int, _CatalogType], ref: TypeRef) -> TypeRef | None:
    entry = catalog.get(ref[0])
    # An array's modifier is its elements'.
    return _resolve(catalog, (entry.element, ref[1])) if entry is not None and entry.element else None


def _names(conn: Connection[TupleRow], refs: list[TypeRef]) -> dict[TypeRef, str]:
    sql = (
        "SELECT oid::bigint, typmod, format_type(oid, typmod) FROM unnest(%s::oid[], %s::int4[]) AS ref(oid, typmod) "
        "WHERE EXISTS (SELECT FROM pg_type t WHERE t.oid = ref.oid)"
    )
    rows = conn.execute(sql, ([oid for oid, _ in refs], [typmod for _, typmod in refs])).fetchall()
    return {(oid, typmod): name for oid, typmod, name in rows}


def _type(catalog: Mapping[int, _CatalogType], names: Mapping[TypeRef, str], ref: TypeRef) -> Type:
    native = names.get(ref, "")
    entry = catalog.get(ref[0])
    if entry is None:
        return Type(Kind.NATIVE, native)
    element = _element(catalog, ref)
    if element is not None:
        return Type(Kind.ARRAY, native, element=_type(catalog, names, element))
    if entry.labels:
        return Type(Kind.ENUM, native, labels=entry.labels)
    if entry.name == "citext":
        return Type(Kind.TEXT, native)
    return base_type(ref, native)


def base_type(ref: TypeRef, native: str) -> Type:
    """A type that is neither array, enum nor domain."""
    oid, typmod = ref
    kind, size = _KINDS.get(oid, (Kind.NATIVE, None))
    if oid in _WITH_LENGTH and typmod >= 4:
        return Type(kind, native, size=typmod - 4)
    if kind is Kind.BIT and typmod >= 0:
        return Type(kind, native, size=typmod)
    if kind is Kind.DECIMAL and typmod >= 4:
        scale = (((typmod - 4) & 0x7FF) ^ 1024) - 1024
        return Type(kind, native, precision=((typmod - 4) >> 16) & 0xFFFF, scale=scale)
    if kind in _TEMPORAL and typmod >= 0:
        return Type(kind, native, precision=typmod)
    if kind is Kind.INTERVAL and typmod >= 0 and typmod & 0xFFFF != _NO_PRECISION:
        return Type(kind, native, precision=typmod & 0xFFFF)
    return Type(kind, native, size=size)


def _bytes(text: str) -> bytes:
    if text[:2] != "\\x":
        raise ValueError("a bytea that is not in hex form")
    return bytes.fromhex(text[2:])


_CONVERTERS: Final[Mapping[Kind, Converter]] = {
    Kind.BOOL: {"t": True, "f": False}.__getitem__,
    Kind.INT: int,
    Kind.FLOAT: float,
    Kind.BYTES: _bytes,
}


def converters(table: TableSchema) -> tuple[Converter, ...]:
    """For each column, what makes the canonical value of the server's text. They raise ValueError or KeyError."""
    return tuple(_CONVERTERS.get(column.type.kind) for column in table.columns)


def to_text(value: Any) -> str:
    """The text form of a canonical value that is not NULL, as the server reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return repr(value)
