"""Filters of `dead-letters`, and durations as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from worker_sync.store.dead_letters import LetterKind, LetterStatus, Wanted

Function = TypeVar("Function", bound=Callable[..., Any])

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class DurationType(click.ParamType[timedelta]):
    """`90s`, `15m`, `2h`, `30d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 15m, 2h or 30d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: float(match[1])})


class MomentType(click.ParamType[datetime]):
    """A duration before now, or a date and time; without a zone it is UTC."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if _DURATION.fullmatch(str(value)):
                return datetime.now(UTC) - DURATION.convert(value, param, ctx)
            moment = datetime.fromisoformat(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; write 2h, 2026-01-31 or 2026-01-31T12:00:00+00:00", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


DURATION: Final = DurationType()
MOMENT: Final = MomentType()


def short_of(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"


def filters(function: Function) -> Function:
    """The options that choose letters by what they are about."""
    for option in (
        click.option("--since", type=MOMENT, help="Parked since then: 2h, 1d, or a date and time."),
        click.option("--task", help="Of this task, such as cleanup.reports."),
        click.option("--kind", type=click.Choice([str(kind) for kind in LetterKind]), help="Of this kind."),
        click.option("--key", help="Of this key, as listed: '[17]'."),
        click.option("--table", help="Of this table of the source, namespace.name."),
        click.option("--pipeline", help="Of this pipeline."),
    ):
        function = option(function)
    return function


def resolved_filters(function: Function) -> Function:
    """--status, for what only looks."""
    choices = [*(str(status) for status in LetterStatus), "any"]
    return click.option(
        "--status",
        type=click.Choice(choices),
        default=str(LetterStatus.PARKED),
        show_default=True,
        help="In this state.",
    )(function)


def wanted_of(given: Mapping[str, Any]) -> Wanted:
    """What the options ask the store for."""
    status = given.get("status", str(LetterStatus.PARKED))
    kind = given["kind"]
    return Wanted(
        kind=None if kind is None else LetterKind(kind),
        status=None if status == "any" else LetterStatus(status),
        pipeline=given["pipeline"],
        table=given["table"],
        key=given["key"],
        task=given["task"],
        parked_after=given["since"],
    )
