"""The canonical bytes of an entry: RFC 8785, over strings, booleans, null, lists and objects.

Numbers are refused: RFC 8785 writes them as doubles, which hold neither 64-bit integers nor decimals. `value` gives
them as text. A JSON encoder in C writes the same bytes, but for the order of keys beyond U+FFFF: RFC 8785 compares
UTF-16 code units, where those come before U+E000.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from math import isinf, isnan
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from worker_sync.core.values import UNCHANGED, Value

#: What an entry is made of; a type that refers to itself would cost its users more than it tells them.
Json: TypeAlias = Any

#: A value that the source did not record; `value` says how it stands in an entry.
MISSING: Final[Mapping[str, bool]] = MappingProxyType({"missing": True})

_LEAVES: Final = frozenset({str, bool, type(None)})
_ONLY_TEXT: Final = frozenset({str})
#: The first bytes of characters beyond U+FFFF in UTF-8.
_BEYOND_BMP: Final = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_text: Final = json.JSONEncoder(ensure_ascii=False).encode


def canonical(entry: dict[str, Json]) -> bytes:
    """The bytes of `entry` that are hashed and kept.

    Raises TypeError with the path for a number, a key that is no str, or another type than those of JSON; ValueError
    with the path for a lone surrogate, which UTF-8 has no form for, and for an entry that is nested too deeply.
    """
    if type(entry) is not dict:
        raise TypeError(f"entry is {type(entry).__name__}: it is a dict")
    try:
        _check(entry, "entry")
        data = _encode(entry)
    except UnicodeEncodeError:
        _refuse_surrogate(entry, "entry")
    except RecursionError:
        raise ValueError("entry is nested too deeply") from None
    if data.isascii() or not any(map(data.__contains__, _BEYOND_BMP)):
        return data
    return "".join(_pieces(entry)).encode()


def value(canonical_value: Value) -> Json:
    """A value of `worker_sync.core.values` as it stands in an entry: numbers as text, bytes as ``{"base64": ...}``, an
    unchanged one as ``{"unchanged": true}``. Raises TypeError for what is no canonical value."""
    kind = type(canonical_value)
    if kind in _LEAVES:
        return canonical_value
    if kind is int:
        return str(canonical_value)
    if kind is float:
        return _float(canonical_value)
    if kind is bytes:
        return {"base64": b64encode(canonical_value).decode()}
    if canonical_value is UNCHANGED:
        return {"unchanged": True}
    if canonical_value is MISSING:
        return {"missing": True}
    raise TypeError(f"{kind.__name__} is no canonical value")


def _float(number: float) -> str:
    if isnan(number):
        return "NaN"
    if isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return repr(number)


def _check(node: Json, path: str) -> None:
    """Raise TypeError unless RFC 8785 holds `node` without numbers. Types are compared as sets, which C does."""
    if type(node) is dict:
        if not _ONLY_TEXT.issuperset(map(type, node)):
            _refuse_key(node, path)
        if not _LEAVES.issuperset(map(type, node.values())):
            for key, child in node.items():
                if type(child) not in _LEAVES:
                    _check(child, f"{path}.{key}")
    elif type(node) is list:
        if not _LEAVES.issuperset(map(type, node)):
            for index, child in enumerate(node):
                _check(child, f"{path}[{index}]")
    elif type(node) not in _LEAVES:
        raise TypeError(f"{path} is {type(node).__name__}: an entry holds numbers and all else as text")


def _refuse_key(node: dict[Any, Json], path: str) -> NoReturn:
    key = next(key for key in node if type(key) is not str)
    raise TypeError(f"{path} has a key of type {type(key).__name__}: keys are str")


def _refuse_surrogate(node: Json, path: str) -> NoReturn:
    for where, text in _texts(node, path):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where} has a lone surrogate, which is no Unicode text") from None
    raise AssertionError("the encoder refused what has no surrogate")


def _texts(node: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield f"a key of {path}", key
            yield from _texts(child, f"{path}.{key!a}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _texts(child, f"{path}[{index}]")


def _pieces(node: Json) -> Iterator[str]:
    """RFC 8785 as it is written, for entries with characters beyond U+FFFF."""
    if isinstance(node, dict):
        for index, key in enumerate(sorted(node, key=utf16)):
            yield f"{',' if index else '{'}{_text(key)}:"
            yield from _pieces(node[key])
        yield "}" if node else "{}"
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield "," if index else "["
            yield from _pieces(child)
        yield "]" if node else "[]"
    else:
        yield _text(node)


def utf16(key: str) -> bytes:
    """What RFC 8785 orders keys by."""
    return key.encode("utf-16-be")
