"""History files of PostgreSQL's timelines."""

from __future__ import annotations

import pytest

from connectors.postgres.timelines import left_at

HISTORY = "1\t0/3000060\tno recovery target specified\n\n3\t1A/FF000000\tbefore 2026-01-01 00:00:00+00\n"


@pytest.mark.parametrize(("timeline", "lsn"), [(1, 0x3000060), (3, 0x1AFF000000), (2, 0), (13, 0)])
def test_where_a_timeline_was_left_is_read_from_its_heirs_history(timeline: int, lsn: int) -> None:
    assert left_at(HISTORY, timeline) == lsn


def test_a_history_without_a_line_has_no_parents() -> None:
    assert left_at("", 1) == 0
