"""Row filters: what may be written, what it means, and what it says when it can't be meant."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_sync.core.filter_syntax import Check, Conjunction, Disjunction, Negation, columns_of, parse_filter
from worker_sync.core.filters import Predicate
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED, Value

KINDS = {
    "id": Kind.INT,
    "total": Kind.DECIMAL,
    "ratio": Kind.FLOAT,
    "region": Kind.TEXT,
    "state": Kind.ENUM,
    "open": Kind.BOOL,
    "day": Kind.DATE,
    "at": Kind.TIMESTAMP,
    "seen": Kind.TIMESTAMPTZ,
    "code": Kind.UUID,
    "data": Kind.JSON,
}
TABLE = TableSchema(
    TableName("public", "orders"), tuple(Column(name, Type(kind)) for name, kind in KINDS.items()), ("id",)
)


def kept(where: str, **values: Value) -> bool | None:
    row = tuple(values.get(name) for name in KINDS)
    return Predicate(parse_filter(where), TABLE)(row)


@pytest.mark.parametrize(
    ("where", "values", "expected"),
    [
        ("id = 5", {"id": 5}, True),
        ("id <> 5", {"id": 5}, False),
        ("id != 5", {"id": 6}, True),
        ("id >= -3", {"id": -3}, True),
        ("total > 9.5", {"total": "10.00"}, True),
        ("total = 10", {"total": "10.00"}, True),
        ("total > 1e3", {"total": "NaN"}, True),
        ("total < 0", {"total": "-Infinity"}, True),
        ("ratio > 1e300", {"ratio": float("nan")}, True),
        ("ratio = .5", {"ratio": 0.5}, True),
        ("region IN ('eu', 'it''s')", {"region": "it's"}, True),
        ("region not in ('eu')", {"region": "us"}, True),
        ("region LIKE 'e_%'", {"region": "eu\n"}, True),
        ("region LIKE 'e.'", {"region": "eu"}, False),
        (r"region LIKE '100\%'", {"region": "100%"}, True),
        (r"region LIKE '100\%'", {"region": "1000"}, False),
        ("region NOT LIKE '%x%'", {"region": "eu"}, True),
        ("state = 'new'", {"state": "new"}, True),
        ("open = true", {"open": True}, True),
        ("open = FALSE", {"open": True}, False),
        ("day < '2024-03-01'", {"day": "2024-02-29"}, True),
        ("day < '0001-01-01'", {"day": "0044-03-15 BC"}, True),
        ("day > '9999-12-31'", {"day": "12345-01-01"}, True),
        ("day > '9999-12-31'", {"day": "infinity"}, True),
        ("at < '2024-01-01 00:00:00'", {"at": "-infinity"}, True),
        ("at = '2024-01-01T12:00'", {"at": "2024-01-01 12:00:00"}, True),
        ("at > '2024-01-01 12:00:00'", {"at": "2024-01-01 12:00:00.5"}, True),
        ("at = '2024-01-01 12:00:00.500'", {"at": "2024-01-01 12:00:00.5"}, True),
        ("seen >= '2024-01-01 02:00:00+02'", {"seen": "2024-01-01 00:00:00+00"}, True),
        ("seen < '2024-01-01T00:00:00Z'", {"seen": "2024-01-01 00:00:00+00"}, False),
        (
            "code = '0B5C0F58-7A3C-4A51-9D0C-2F6A5F6F7A11'",
            {"code": "0b5c0f58-7a3c-4a51-9d0c-2f6a5f6f7a11"},
            True,
        ),
        ("data IS NULL", {}, True),
        ("data IS NOT NULL", {"data": "null"}, True),
        ("\"region\" = 'eu'", {"region": "eu"}, True),
        ("id = 1 OR id = 2 AND region = 'eu'", {"id": 1}, True),
        ("(id = 1 OR id = 2) AND region = 'eu'", {"id": 1}, False),
        ("NOT (id = 1)", {"id": 2}, True),
        ("NOT NOT id = 1", {"id": 1}, True),
    ],
)
def test_a_row_is_kept_or_not(where: str, values: dict[str, Value], expected: bool) -> None:
    assert kept(where, **values) is expected


@pytest.mark.parametrize("where", ["id = 1", "id <> 1", "NOT id = 1", "id IN (1)", "id NOT IN (1)", "region LIKE '%'"])
def test_a_comparison_with_null_keeps_nothing(where: str) -> None:
    assert kept(where) is False


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("region = 'eu'", None),
        ("region IS NULL", None),
        ("NOT region = 'eu'", None),
        ("region = 'eu' AND id = 1", None),
        ("region = 'eu' AND id = 2", False),
        ("region = 'eu' OR id = 1", True),
        ("region = 'eu' OR id = 2", None),
        ("region = 'eu' OR total = 1", None),
        ("total = 1 AND region = 'eu'", None),
    ],
)
def test_a_column_that_was_not_sent_leaves_open_only_what_depends_on_it(where: str, expected: bool | None) -> None:
    assert kept(where, id=1, region=UNCHANGED) is expected


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("", "expected a column at the end"),
        ("id", "expected a comparison, IN, LIKE or IS at the end"),
        ("id =", "expected a text in single quotes, a number, TRUE or FALSE at the end"),
        ("id = 5 5", "expected AND, OR or the end at character 8"),
        ("id = region", "expected a text in single quotes, a number, TRUE or FALSE at character 6"),
        ("id = NULL", "nothing compares with NULL; write IS NULL or IS NOT NULL"),
        ("id IS 5", "expected NULL at character 7"),
        ("id NOT = 5", "expected IN or LIKE at character 8"),
        ("id IN ()", "expected a text in single quotes, a number, TRUE or FALSE at character 8"),
        ("id IN (1", "expected ) at the end"),
        ("(id = 1", "expected ) at the end"),
        ("id = 'x", "character 6 begins nothing that a filter may hold"),
        ("id = 5; DROP TABLE x", "character 7 begins nothing that a filter may hold"),
        ("lower(region) = 'eu'", "expected a comparison, IN, LIKE or IS at character 6"),
        ("region LIKE 5", "expected a text in single quotes at character 13"),
        ("id = 1x", "character 6 begins nothing that a filter may hold"),
        ("(" * 60 + "id = 1" + ")" * 60, "nested too deep"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(where: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        parse_filter(where)


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("regoin = 'eu'", "no column 'regoin'; did you mean 'region'?"),
        ("id = 'five'", "column 'id' is int, but it is compared with a text"),
        ("id = 1.5", "column 'id' is int, but it is compared with a fraction"),
        ("region = 5", "column 'region' is text, but it is compared with a number"),
        ("open = 1", "column 'open' is bool, but it is compared with a number"),
        ("open < TRUE", "column 'open' is bool, which has no order; use =, != or IN"),
        ("state > 'a'", "column 'state' is enum, which has no order; use =, != or IN"),
        ("state LIKE 'a'", "column 'state' is enum; LIKE is for text"),
        ("region LIKE 'a\\'", "column 'region': a LIKE pattern can't end with a backslash"),
        ("day = '2024-02-30'", "column 'day' is date, but the text is no date that exists"),
        ("day = 'soon'", "column 'day' is date, but the text is no date like 2026-01-31"),
        ("at = '2024-01-01 00:00:00+00'", "column 'at' is timestamp, but the text has a time zone"),
        (
            "seen > '2024-01-01'",
            "column 'seen' is timestamptz, but the text has no time zone; write 2026-01-31 12:00:00+00",
        ),
        ("code = 'x'", "column 'code' is uuid, but the text is no UUID"),
        (
            "data = '{}'",
            (
                "column 'data' is json, for which there is only IS NULL; known: bool, int, float, decimal, text, enum, "
                "uuid, date, timestamp, timestamptz"
            ),
        ),
    ],
)
def test_what_a_table_does_not_allow_is_refused(where: str, problem: str) -> None:
    condition = parse_filter(where)
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        Predicate(condition, TABLE)


names = st.sampled_from(["id", "region", "Ünïcode", "a b", 'quo"te', "and", "x$1"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
literals = st.one_of(texts, st.decimals(allow_nan=False, allow_infinity=False, places=3), st.booleans())
tests = st.one_of(
    st.builds(lambda c, op, v: Check(c, op, (v,)), names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), literals),
    st.builds(lambda c, values: Check(c, "in", tuple(values)), names, st.lists(literals, min_size=1, max_size=3)),
    st.builds(lambda c, text: Check(c, "like", (text,)), names, texts),
    st.builds(lambda c: Check(c, "null"), names),
)
conditions = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(Negation, inner),
        st.builds(lambda parts: Conjunction(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: Disjunction(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


def written(condition: object) -> str:
    """The condition as text, every part in parentheses."""
    match condition:
        case Negation(part):
            return f"NOT ({written(part)})"
        case Conjunction(parts):
            return " AND ".join(f"({written(part)})" for part in parts)
        case Disjunction(parts):
            return " or ".join(f"({written(part)})" for part in parts)
        case Check(column, op, values):
            name = '"' + column.replace('"', '""') + '"'
            if op == "null":
                return f"{name} is null"
            shown = [literal(value) for value in values]
            return f"{name} IN ({', '.join(shown)})" if op == "in" else f"{name} {op} {shown[0]}"
    raise AssertionError(condition)


def literal(value: object) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


@given(conditions)
def test_a_condition_that_is_written_reads_back(condition: Check | Negation | Conjunction | Disjunction) -> None:
    assert parse_filter(written(condition)) == condition
    assert set(columns_of(condition)) <= {"id", "region", "Ünïcode", "a b", 'quo"te', "and", "x$1"}


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert list(columns_of(parse_filter(text)))
