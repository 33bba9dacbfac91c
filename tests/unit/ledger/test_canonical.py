"""An entry has one form in bytes, that of RFC 8785."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker_sync.core.values import UNCHANGED
from worker_sync.ledger.canonical import MISSING, canonical, value

#: What escapes, what C code may take for a line's end, and both sides of where UTF-16 sorts otherwise.
AWKWARD = "\x00\b\t\n\f\r\x1f \"\\/'\x7f\x80\u2028\u2029\ud7ff\ue000\ufb33\uffff\U00010000\U0010ffff"
TEXTS = st.text(st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"]), max_size=8)
NODES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def reference(node: Any) -> str:
    """RFC 8785, section 3.2, word for word."""
    if isinstance(node, str):
        return f'"{"".join(map(escaped, node))}"'
    if isinstance(node, list):
        return f"[{','.join(map(reference, node))}]"
    if isinstance(node, dict):
        keys = sorted(node, key=lambda key: [unit for char in key for unit in units(char)])
        return f"{{{','.join(f'{reference(key)}:{reference(node[key])}' for key in keys)}}}"
    return {None: "null", True: "true", False: "false"}[node]


def escaped(char: str) -> str:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return short.get(ord(char)) or (f"\\u{ord(char):04x}" if ord(char) < 32 else char)


def units(char: str) -> list[int]:
    code = ord(char) - 0x10000
    return [ord(char)] if code < 0 else [0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF)]


@settings(deadline=None)
@given(st.dictionaries(TEXTS, NODES, max_size=5))
def test_the_bytes_are_those_of_rfc_8785(entry: dict[str, Any]) -> None:
    assert canonical(entry) == reference(entry).encode()
    assert json.loads(canonical(entry)) == entry


def test_every_character_is_written_as_rfc_8785_says() -> None:
    codes = [*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 251)]
    characters = [chr(code) for code in codes]
    assert canonical({"": characters}) == reference({"": characters}).encode()


def test_the_sample_of_rfc_8785_section_3_2_2() -> None:
    sample = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}
    expected = (
        "7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72 75 65 2c 66 61 6c 73 65 5d 2c"
        "22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30 30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c 22 2f 22 7d"
    )
    assert canonical(sample) == bytes.fromhex(expected)


def test_the_order_of_keys_of_rfc_8785_section_3_2_3() -> None:
    sample = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\x80": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical(sample))) == ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


class Word(StrEnum):
    WORD = "word"


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"a": 1}, r"entry\.a is int"),
        ({"a": {"b": [None, 1.5]}}, r"entry\.a\.b\[1\] is float"),
        ({"a": b"bytes"}, r"entry\.a is bytes"),
        ({"a": (1,)}, r"entry\.a is tuple"),
        ({"a": Word.WORD}, r"entry\.a is Word"),
        ({"a": {1: "b"}}, r"entry\.a has a key of type int"),
        ({Word.WORD: "b"}, r"entry has a key of type Word"),
        ({"a": MISSING}, r"entry\.a is mappingproxy"),
        (["a"], r"entry is list"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_path(entry: Any, path: str) -> None:
    with pytest.raises(TypeError, match=path):
        canonical(entry)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"a": {"b": ["x", "\ud800"]}}, r"entry\.'a'\.'b'\[1\] has a lone surrogate"),
        ({"a": {"\udfff": None}}, r"a key of entry\.'a' has a lone surrogate"),
        ({"\U00010000": "\udc00\ud800"}, r"entry\.'\\U00010000' has a lone surrogate"),
    ],
)
def test_a_lone_surrogate_is_refused_with_its_path(entry: Any, path: str) -> None:
    with pytest.raises(ValueError, match=path):
        canonical(entry)


def test_an_entry_that_holds_itself_is_refused() -> None:
    entry: dict[str, Any] = {}
    entry["a"] = [entry]
    with pytest.raises(ValueError, match="nested too deeply"):
        canonical(entry)


@pytest.mark.parametrize(
    ("given_value", "stands"),
    [
        (None, None),
        (True, True),
        ("12.50", "12.50"),
        (-(2**63), "-9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (b"\x00\xff", {"base64": "AP8="}),
        (UNCHANGED, {"unchanged": True}),
        (MISSING, {"missing": True}),
    ],
)
def test_a_database_value_stands_in_an_entry(given_value: Any, stands: Any) -> None:
    assert value(given_value) == stands
    assert canonical({"v": value(given_value)})


@given(st.floats(allow_nan=False))
def test_the_text_of_a_float_reads_back_as_the_same_float(number: float) -> None:
    assert float(value(number)).hex() == number.hex()


def test_another_type_is_no_value() -> None:
    with pytest.raises(TypeError, match="list is no canonical value"):
        value([1])
