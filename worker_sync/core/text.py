"""Text forms of canonical values that more than one engine takes apart: arrays, times, numbers and JSON.

Everything here raises ValueError, without the value in its message, for text that it can't read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from json.encoder import encode_basestring  # the quoting of json.dumps, in C where built
from typing import Any, Final

#: An element's text, None for NULL, or a list: one more dimension.
Array = list[Any]

# Only PostgreSQL's own six white spaces part elements: others, as a no-break space, are theirs.
_SPACES: Final = " \t\n\r\v\f"
_TOKEN: Final = re.compile(
    r'\s*(?:([{},])|"((?:[^"\\]|\\.)*)"|((?:[^{},"\\\s]|\\.)(?:[^{},"\\]|\\.)*))', re.DOTALL | re.ASCII
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(r'(["\\])')
_NEEDS_QUOTES: Final = re.compile(r'[{},"\\\s]', re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - like all moments here, in UTC without saying so
_MICROSECOND: Final = timedelta(microseconds=1)


def parse_array(text: str) -> Array:
    """The elements of a PostgreSQL array literal, nested as its dimensions are.

    Subscripts that don't begin at 1 (``[0:1]={...}``) are refused: a list has no place for them.
    """
    if not text.startswith("{"):
        raise ValueError("array with lower bounds of its own" if text.startswith("[") else "not an array literal")
    if not any(mark in text for mark in ('"', "\\", "{{", " ")) and text.count("{") == 1 and text.endswith("}"):
        return _plain_elements(text[1:-1])
    return _nested_elements(text)


def _plain_elements(body: str) -> Array:
    if not body:
        return []
    elements = body.split(",")
    if "" in elements or "}" in body:
        raise ValueError("not an array literal")
    return [None if element.upper() == "NULL" else element for element in elements]


def _nested_elements(text: str) -> Array:
    root: Array = []
    stack = [root]
    at, wants_element = 0, True
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            if text[at:].strip(_SPACES):
                raise ValueError("not an array literal")
            break
        at = token.end()
        mark = token[1]
        if mark == "{" and wants_element:
            nested: Array = []
            stack[-1].append(nested)
            stack.append(nested)
        elif mark == "," and not wants_element and len(stack) > 1:
            wants_element = True
        elif mark == "}" and len(stack) > 1 and (not wants_element or not stack[-1]):
            stack.pop()
            wants_element = False
        elif mark is None and wants_element and len(stack) > 1:
            stack[-1].append(_element(token))
            wants_element = False
        else:
            raise ValueError("not an array literal")
    if len(stack) != 1 or len(root) != 1:
        raise ValueError("not an array literal")
    elements: Array = root[0]
    return elements


def _element(token: re.Match[str]) -> str | None:
    if token[2] is not None:
        return _ESCAPED.sub(r"\1", token[2])
    bare: str = token[3].rstrip(_SPACES)
    return None if bare.upper() == "NULL" else _ESCAPED.sub(r"\1", bare)


def format_array(elements: Array) -> str:
    """The array literal of these elements, quoted as PostgreSQL quotes them."""
    return "{" + ",".join(map(_format_element, elements)) + "}"


def _format_element(element: Any) -> str:
    if element is None:
        return "NULL"
    if isinstance(element, list):
        return format_array(element)
    if element and element.upper() != "NULL" and not _NEEDS_QUOTES.search(element):
        return str(element)
    return '"' + _TO_ESCAPE.sub(r"\\\1", element) + '"'


def parse_date(text: str) -> datetime:
    """Midnight of that date. Refuses infinities and years outside 1 to 9999."""
    if len(text) != 10:
        raise ValueError("date outside the years 1 to 9999")
    return _parse(text)


def parse_timestamp(text: str) -> datetime:
    """That moment, without a zone. Refuses infinities and years outside 1 to 9999."""
    if len(text) < 19 or text[10] != " " or len(text) > 26:
        raise ValueError("timestamp outside the years 1 to 9999")
    return _parse(text)


def parse_timestamptz(text: str) -> datetime:
    """That moment in UTC, as a datetime without a zone. Refuses what `parse_timestamp` refuses."""
    if not text.endswith("+00"):
        raise ValueError("timestamp outside the years 1 to 9999, or not in UTC")
    if len(text) < 22 or text[10] != " " or len(text) > 29:
        raise ValueError("timestamp outside the years 1 to 9999")
    return _parse(text[:-3])


def _parse(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("no date or timestamp of the years 1 to 9999") from None


def format_date(moment: datetime) -> str:
    return moment.isoformat()[:10]


def format_timestamp(moment: datetime) -> str:
    """Canonical text: the fraction without trailing zeros, none at all when it is zero."""
    text = moment.isoformat(" ")
    return text.rstrip("0") if moment.microsecond else text


def format_timestamptz(moment: datetime) -> str:
    return format_timestamp(moment) + "+00"


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime in UTC, with or without its zone."""
    return (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The datetime, without a zone, of microseconds since 1970. Refuses what lies outside the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise ValueError("timestamp outside the years 1 to 9999") from None


def now_microseconds() -> int:
    """This machine's clock in microseconds since 1970."""
    return to_microseconds(datetime.now(UTC))


def format_float(value: float, size: int | None = None) -> str:
    """The shortest text that reads back as `value`, laid out as PostgreSQL does (``1``, ``1e+15``, ``Infinity``)."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    point = len(digits) + exponent - 1 if value else 0
    text = "".join(map(str, digits))
    prefix = "-" if sign else ""
    if -5 < point < (6 if size == 32 else 15):
        return prefix + format(Decimal((0, digits, exponent)), "f")
    return f"{prefix}{text[0]}{'.' if len(text) > 1 else ''}{text[1:]}e{'-' if point < 0 else '+'}{abs(point):02}"


def exact_float(text: str) -> float | None:
    """The float whose own text is `text`; None when a float would change the number or the way it is written."""
    value = float(text)
    return value if repr(value) == text else None


def json_reader(number: Callable[[str], Any], integer: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function that reads JSON text, numbers by the functions given (`number` for those with fraction or exponent).

    It refuses duplicate keys, NaN and infinities, and nesting too deep to read.
    """
    decoder = json.JSONDecoder(
        parse_float=number, parse_int=integer, parse_constant=_refuse_constant, object_pairs_hook=_object
    )

    def read(text: str) -> Any:
        try:
            return decoder.decode(text)
        except RecursionError:
            raise ValueError("JSON nested too deep") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg}") from None

    return read


def _refuse_constant(_: str) -> Any:
    raise ValueError("not JSON: NaN or infinity")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("JSON object with a key twice")
    return result


def _exact_number(text: str) -> float | Decimal:
    value = exact_float(text)
    return Decimal(text) if value is None else value


#: JSON text to None, bool, int, float, str, list and dict; a number that a float would change is a Decimal.
parse_json: Final = json_reader(_exact_number, int)


def format_json(value: Any) -> str:
    """JSON text laid out as PostgreSQL lays out jsonb. Integers and Decimals of any size keep all their digits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(encode_basestring(value))
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list):
        return "[" + ", ".join(map(format_json, value)) + "]"
    return "{" + ", ".join(f"{encode_basestring(key)}: {format_json(item)}" for key, item in value.items()) + "}"
