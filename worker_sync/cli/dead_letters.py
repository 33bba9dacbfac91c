"""`dead-letters`: work that failed for good, and what a person decides about it."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from worker_sync.cli.letter_options import DURATION, filters, resolved_filters, short_of, wanted_of
from worker_sync.cli.letter_output import (
    as_dict,
    content_of,
    next_steps,
    print_decided,
    print_letters,
    tell_nothing,
    tell_would,
)
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import Transient
from worker_sync.store.dead_letters import DeadLetter, LetterStatus, Wanted

#: Letters that are listed or shown at once unless said otherwise.
SHOWN: Final = 100
#: Discarding more than so many letters at once is asked for again.
MANY: Final = 1
WAIT_S: Final = 0.25

_IDS: Final = click.argument("ids", nargs=-1, type=click.IntRange(min=1))
_ALL: Final = click.option("--all", "everything", is_flag=True, help="All letters that the filters leave.")
_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Show what would be done and do nothing.")


@click.group(
    "dead-letters",
    epilog="\b\nExamples:\n  worker-sync dead-letters list --pipeline shop-to-reporting\n"
    "  worker-sync dead-letters replay 17 --wait\n"
    "  worker-sync dead-letters discard --task cleanup.reports --all --yes",
)
@configured
def dead_letters() -> None:
    """Work that failed for good: list, show, replay, discard, purge."""


@dead_letters.command("list", epilog="\b\nExamples:\n  worker-sync dead-letters list --kind change --since 1d --json")
@configured
@filters
@resolved_filters
@click.option("--limit", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="Letters to list.")
@as_json_option
@click.pass_context
def list_(ctx: click.Context, /, limit: int, as_json: bool, **given: Any) -> int:
    """List letters, oldest first; those that are parked unless --status says otherwise."""
    with Workspace(state(ctx).settings()) as space:
        letters = space.store.dead_letters.find(wanted_of(given), limit=limit + 1)
    more, letters = len(letters) > limit, letters[:limit]
    if as_json:
        print_json({"letters": [as_dict(letter) for letter in letters], "more": more})
        return 0
    print_letters(letters)
    if more:
        click.echo(f"There are more; the first {limit} are listed. See --limit and the filters.")
    if any(letter.status is LetterStatus.PARKED for letter in letters):
        click.echo("Next: worker-sync dead-letters show ID, then replay ID or discard ID")
    return 0


@dead_letters.command(epilog="\b\nExamples:\n  worker-sync dead-letters show 17")
@configured
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@as_json_option
@click.pass_context
def show(ctx: click.Context, number: int, as_json: bool) -> int:
    """Show one letter: what failed, why, how often, and what was decided. Values of rows are not shown."""
    with Workspace(state(ctx).settings()) as space:
        letters = space.store.dead_letters.find(Wanted(ids=[number], status=None))
        payload = space.store.dead_letters.payload(number) if letters else None
    if not letters or payload is None:
        click.echo(f"There is no letter {number}. Next: worker-sync dead-letters list", err=True)
        return 1
    shown = {**as_dict(letters[0]), **content_of(letters[0], payload)}
    if as_json:
        print_json(shown)
        return 0
    for name, value in shown.items():
        if value not in (None, ""):
            click.echo(f"{name:<14} {value}")
    for line in next_steps(letters[0]):
        click.echo(line)
    return 0


@dead_letters.command(
    epilog="\b\nExamples:\n  worker-sync dead-letters replay 17 18 --wait\n"
    "  worker-sync dead-letters replay --pipeline shop-to-reporting --all --dry-run"
)
@configured
@_IDS
@filters
@_ALL
@_DRY_RUN
@click.option("--wait", is_flag=True, help="Wait until captures have done what they were asked for.")
@click.option("--timeout", type=DURATION, default="5m", show_default=True, help="How long to wait.")
@as_json_option
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    ids: Sequence[int],
    everything: bool,
    dry_run: bool,
    wait: bool,
    timeout: timedelta,
    as_json: bool,
    **given: Any,
) -> int:
    """Try parked work again: a task or message is sent once more, a change's row is read anew from its source.

    Exit code 1 when there is nothing to replay or a letter stays parked.
    """
    from tasks import deciding

    with Workspace(state(ctx).settings()) as space:
        letters = _chosen(space, ids, everything, given)
        if not letters:
            return tell_nothing(as_json, "replay")
        if dry_run:
            return tell_would(letters, "replayed", as_json)
        decided = deciding.replay(_app(space), space.settings, space.store, letters, _who())
        if wait:
            decided = _settled(space, decided, timeout)
    return print_decided(decided, as_json)


@dead_letters.command(
    epilog="\b\nExamples:\n  worker-sync dead-letters discard 17 --note 'a test row'\n"
    "  worker-sync dead-letters discard --task cleanup.reports --all --yes"
)
@configured
@_IDS
@filters
@_ALL
@_DRY_RUN
@click.option("--yes", is_flag=True, help="Don't ask before discarding several.")
@click.option("--note", default="", help="Why, for the record.")
@as_json_option
@click.pass_context
def discard(
    ctx: click.Context,
    /,
    ids: Sequence[int],
    everything: bool,
    dry_run: bool,
    yes: bool,
    note: str,
    as_json: bool,
    **given: Any,
) -> int:
    """Give parked work up. Who did it, and the note, are recorded; later changes of a discarded key flow again."""
    from tasks import deciding

    with Workspace(state(ctx).settings()) as space:
        letters = _chosen(space, ids, everything, given)
        if not letters:
            return tell_nothing(as_json, "discard")
        if dry_run:
            return tell_would(letters, "discarded", as_json)
        if len(letters) > MANY and not yes:
            click.confirm(f"Discard {len(letters)} letters? What they hold won't be applied", abort=True, err=True)
        decided = deciding.discard(space.settings, space.store, letters, _who(), note)
    return print_decided(decided, as_json)


@dead_letters.command(epilog="\b\nExamples:\n  worker-sync dead-letters purge --older-than 30d --dry-run")
@configured
@click.option("--older-than", type=DURATION, default="30d", show_default=True, help="Since they were resolved.")
@_DRY_RUN
@as_json_option
@click.pass_context
def purge(ctx: click.Context, older_than: timedelta, dry_run: bool, as_json: bool) -> int:
    """Remove letters that were replayed or discarded long ago; parked ones stay. Beat does it daily."""
    from tasks import deciding

    with Workspace(state(ctx).settings()) as space:
        if dry_run:
            removed = deciding.purgeable(space.store, datetime.now(UTC) - older_than)
        else:
            removed = deciding.purge(space.store, older_than.total_seconds())
    if as_json:
        print_json({"removed": 0 if dry_run else removed, "would_remove": removed})
    else:
        click.echo(f"{removed:,} letters {'would be' if dry_run else 'were'} removed.")
    return 0


# -- which


def _chosen(space: Workspace, ids: Sequence[int], everything: bool, given: Mapping[str, Any]) -> list[DeadLetter]:
    """The parked letters that the command line means. Raises a usage error when it is too little or too much."""
    from tasks import deciding

    filtered = any(value is not None for value in given.values())
    if ids and (filtered or everything):
        raise click.UsageError("give either numbers or filters with --all")
    if ids:
        return deciding.parked(space.store, ids)
    if not everything:
        raise click.UsageError("say which letters: their numbers, or --all with or without filters")
    return list(deciding.found(space.store, wanted_of(given)))


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _app(space: Workspace) -> Any:
    from tasks import configuration
    from tasks.app import app

    configuration.configure(space.settings)
    return app


def _settled(space: Workspace, decided: Sequence[Any], timeout: timedelta) -> list[Any]:
    from tasks import deciding

    deadline = time.monotonic() + timeout.total_seconds()
    while (done := deciding.settled(space.store, decided)) is None:
        if time.monotonic() > deadline:
            raise Transient(
                f"the capture has not finished within {short_of(timeout)}; it goes on, see `worker-sync status` and "
                "`worker-sync dead-letters list`"
            )
        time.sleep(WAIT_S)
    return done
