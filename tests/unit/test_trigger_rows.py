"""Rows as PostgreSQL prints them whole, and positions among what triggers recorded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres.triggers.names import parse, position
from connectors.postgres.triggers.rows import BadRow, fields


def printed(values: list[str | None]) -> str:
    """As the server's record_out does."""
    return f"({','.join('' if value is None else _quoted(value) for value in values)})"


def _quoted(value: str) -> str:
    if value and not any(char in '"\\(),' or char.isspace() for char in value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '""') + '"'


@given(st.lists(st.none() | st.text(alphabet='a"\\(), \n\tü', max_size=8), min_size=1, max_size=5))
def test_a_printed_row_is_taken_apart_into_its_values(values: list[str | None]) -> None:
    assert fields(printed(values)) == values


@pytest.mark.parametrize("text", ["", "1,2", "(1", '("a"b)', '("a)'])
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(BadRow):
        fields(text)


def test_positions_are_in_the_order_of_windows_and_places() -> None:
    places = [(1, 0), (1, 2), (1, 10), (2, 1), (16, 1), (1 << 50, 1)]
    assert sorted(position(*place) for place in places) == [position(*place) for place in places]
    assert [parse(position(*place)) for place in places] == places
    assert parse("") == (0, 0)
