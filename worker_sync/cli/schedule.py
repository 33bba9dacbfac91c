"""`schedule`: what runs when, what came of it, and running an entry now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from beat_schedule import Entry, describe, rhythm
from beat_schedule import schedule as schedule_of
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json, print_table
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError, Unreachable
from worker_sync.core.settings_file import suggestion
from worker_sync.store.schedule import Run, RunStatus


@click.group()
def schedule() -> None:
    """Look at the schedule, and run an entry now."""


@schedule.command("list", epilog="\b\nExamples:\n  worker-sync schedule list\n  worker-sync schedule list --json")
@configured
@as_json_option
@click.pass_context
def list_entries(ctx: click.Context, as_json: bool) -> int:
    """Show every entry with its next time, its last run and what came of that."""
    with Workspace(state(ctx).settings()) as space:
        now = space.store.now()
        found = [
            _document(name, entry, now, next(iter(space.store.schedule.newest(name)), None))
            for name, entry in schedule_of(space.settings).items()
        ]
    if as_json:
        print_json(found)
    else:
        print_table(["entry", "task", "when", "next", "last", "result", "at"], [_row(entry) for entry in found])
    return 0


def _document(name: str, entry: Entry, now: datetime, last: Run | None) -> dict[str, Any]:
    return {
        "entry": name,
        "task": entry.task,
        "when": describe(entry),
        "next": rhythm(entry).after(now).isoformat(),
        "last": None if last is None else _last(last),
    }


def _last(run: Run) -> dict[str, Any]:
    return {
        "scheduled_for": run.scheduled_for.isoformat(),
        "by_hand": run.by_hand,
        "status": run.status.value,
        "published_at": run.published_at and run.published_at.isoformat(),
        "finished_at": run.finished_at and run.finished_at.isoformat(),
        "error": run.error,
    }


def _row(entry: dict[str, Any]) -> list[Any]:
    last = entry["last"] or {}
    result = " ".join(part for part in (last.get("status"), "by hand" if last.get("by_hand") else "") if part)
    at = last.get("finished_at") or last.get("published_at")
    times = [value and value[:19].replace("T", " ") for value in (entry["next"], last.get("scheduled_for"), at)]
    return [entry["entry"], entry["task"], entry["when"], *times[:2], result, times[2]]


@schedule.command("run", epilog="\b\nExamples:\n  worker-sync schedule run report-cleanup")
@configured
@click.argument("name")
@as_json_option
@click.pass_context
def run_entry(ctx: click.Context, name: str, as_json: bool) -> int:
    """Send the entry NAME to the workers now. Its own times stay as they are."""
    with Workspace(state(ctx).settings()) as space:
        at = _send(space, name)
    if as_json:
        print_json({"entry": name, "scheduled_for": at.isoformat()})
    else:
        click.echo(f"{name} is sent. Next: worker-sync schedule list")
    return 0


def _send(space: Workspace, name: str) -> datetime:
    from kombu.exceptions import OperationalError

    from tasks import configuration
    from tasks.app import app
    from tasks.scheduled import send

    entries = schedule_of(space.settings)
    if name not in entries:
        raise ConfigError(f"no entry {name!r}{suggestion(name, entries)}")
    configuration.configure(space.settings)
    claim = space.store.schedule.claim_by_hand(name, entries[name].task)
    try:
        send(app, claim, entries[name])
    except OperationalError as error:
        space.store.schedule.ended(claim, RunStatus.FAILED, "the broker did not take it")
        raise Unreachable(f"the broker: {error}") from error
    space.store.schedule.published(claim)
    return claim.scheduled_for
