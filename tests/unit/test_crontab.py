"""Times of crontabs, in particular where clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beat_schedule.entry import Entry
from beat_schedule.rhythm import rhythm
from worker_sync.core.crontab import BadCrontab, Crontab, UnknownTimeZone

BERLIN = "Europe/Berlin"
#: Berlin puts its clocks forward on 29 March 2026 (02:00 -> 03:00) and back on 25 October (03:00 -> 02:00).
SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)


def times(crontab: str, start: datetime, hours: float, zone: str = BERLIN) -> list[str]:
    """Month, day and time in UTC of all runs within so many hours."""
    found = Crontab.parse(crontab, zone).until(start, start + timedelta(hours=hours), 10_000)
    return [at.strftime("%m-%d %H:%M") for at in found]


def test_a_run_at_half_past_two_happens_once_on_the_day_without_half_past_two() -> None:
    assert times("30 2 * * *", SPRING - timedelta(days=1), 72) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_a_run_at_half_past_two_happens_once_on_the_day_with_two_of_them() -> None:
    assert times("30 2 * * *", AUTUMN - timedelta(days=1), 72) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_an_hourly_run_keeps_its_hour_when_clocks_change() -> None:
    for start in (SPRING, AUTUMN):
        begin = start.replace(hour=22, minute=0)
        expected = [(begin + timedelta(hours=n)).strftime("%m-%d %H:30") for n in range(6)]
        assert times("30 * * * *", begin, 6) == expected


def test_a_run_every_five_minutes_does_not_pause_for_the_hour_that_comes_twice() -> None:
    found = Crontab.parse("*/5 * * * *", BERLIN).until(AUTUMN, AUTUMN + timedelta(hours=24), 10_000)
    assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=5)}


def test_a_zone_without_a_whole_hour_and_one_with_half_an_hour_of_summer_time() -> None:
    assert times("0 9 * * *", datetime(2026, 1, 1, tzinfo=UTC), 24, "Asia/Kathmandu") == ["01-01 03:15"]
    # Lord Howe puts its clocks forward by half an hour at 02:00 on 4 October 2026: 02:15 is then 02:45.
    assert times("15 2 * * *", datetime(2026, 10, 3, 12, tzinfo=UTC), 24, "Australia/Lord_Howe") == ["10-03 15:45"]


def test_a_day_must_fit_all_of_its_fields() -> None:
    friday = Crontab.parse("0 0 13 * fri").after(datetime(2026, 3, 14, tzinfo=UTC))
    assert (friday.day, friday.strftime("%a")) == (13, "Fri")
    assert Crontab.parse("0 0 * * 7").after(SPRING) == Crontab.parse("0 0 * * sun").after(SPRING)
    assert Crontab.parse("0 0 29 feb *").after(SPRING) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("crontab", "why"),
    [
        ("* * * *", "has 4 fields; give five"),
        ("60 * * * *", "minute 60 is outside of 0 to 59"),
        ("* * * * mo", "day of week 'mo' is not understood"),
        ("*/0 * * * *", "minute 0 is outside of 1 to 59"),
        ("50-10 * * * *", "goes backwards"),
        ("0 0 31 2,4 *", "never comes"),
        ("0 0 * 1,, *", "month '' is not understood"),
        ("٣ * * * *", "is not understood"),
    ],
)
def test_what_is_no_crontab_is_refused_with_the_field(crontab: str, why: str) -> None:
    with pytest.raises(BadCrontab, match=why):
        Crontab.parse(crontab)


@pytest.mark.parametrize("name", ["", "Europe", "Europe/Berln", "/etc/passwd", "../UTC"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownTimeZone):
        Crontab.parse("* * * * *", name)


MOMENTS = st.integers(1_577_836_800_000, 2_208_988_800_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
ENTRIES = st.one_of(
    st.builds(lambda s: Entry("x", every_s=s), st.sampled_from([0.1, 0.7, 1.0, 15.0, 3600.0])),
    st.builds(
        lambda minute, hour, zone: Entry("x", crontab=f"{minute} {hour} * * *", timezone=zone),
        st.sampled_from(["*", "*/7", "0", "30", "59"]),
        st.sampled_from(["*", "2", "0-3", "*/6"]),
        st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
    ),
)


@given(ENTRIES, MOMENTS)
def test_what_comes_after_a_moment_is_what_has_come_by_then(entry: Entry, moment: datetime) -> None:
    found = rhythm(entry)
    following = found.after(moment)
    assert following > moment
    assert found.until(moment, following, 5) == [following]
    assert found.until(moment, following - timedelta(microseconds=1), 5) == []
    assert found.after(following) > following


def test_the_newest_times_are_given_oldest_first() -> None:
    hourly = Crontab.parse("0 * * * *")
    start = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
    assert [at.hour for at in hourly.until(start, start + timedelta(hours=5), 2)] == [4, 5]
    every = rhythm(Entry("x", every_s=10.0))
    assert every.until(start, start + timedelta(seconds=35), 2) == [start + timedelta(seconds=n) for n in (20, 30)]
