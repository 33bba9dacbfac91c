"""How entries of the trail are shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from connectors.ledger.revealing import FORGOTTEN, UNREADABLE
from worker_sync.cli.output import UNKNOWN
from worker_sync.ledger.envelope import is_sealed

Entry = dict[str, Any]

_CSV: Final = ("number", "recorded_at", "kind", "source", "table", "operation", "key", "actor", "committed_at",
               "transaction", "changed", "before", "after", "context", "host", "id")  # fmt: skip
#: Of an entry's `session`; columns behind those above.
_SESSION: Final = ("session_user", "role", "application_name", "client_addr")
#: What entries of other kinds than changes have to say.
TOLD: Final = {
    "schema": ("text",),
    "begin": ("position",),
    "gap": ("from", "to", "reason"),
    "scope": ("added", "removed", "narrowed"),
    "key": ("action", "verifier_key"),
    "forget-requested": ("by", "subject"),
    "forgotten": ("by", "subject"),
    "personal-key-added": ("slot", "by"),
    "personal-key-removed": ("slot", "by"),
}
_LONGEST_KEY: Final = 40
MISSING: Final = {"missing": True}
UNCHANGED: Final = {"unchanged": True}
_ABSENT: Final = object()


def print_lines(entries: Iterable[Entry]) -> int:
    """One line an entry: number, time, where, what, by whom. Returns how many."""
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007
        click.echo("  ".join(part for part in _parts(entry) if part))
    return count


def print_csv(entries: Iterable[Entry]) -> None:
    """A heading and one row an entry; what is no text as JSON."""
    click.echo(",".join((*_CSV, *_SESSION)))
    for entry in entries:
        line = io.StringIO()
        cells = [*(entry.get(name) for name in _CSV), *(_session(entry).get(name) for name in _SESSION)]
        csv.writer(line, lineterminator="").writerow(map(_cell, cells))
        click.echo(line.getvalue())


def print_history(entries: Iterable[Entry]) -> None:
    """What became of a row, oldest entry first, as the fields that each change gave other values. Where the source does
    not record what was there before, the entry in front says it."""
    known: Entry | None = None
    for entry in entries:
        by = shown(entry["actor"]) if entry.get("actor") else "somebody unknown"
        what = click.style(str(entry.get("operation") or entry["kind"]), bold=True)
        click.echo(f"#{entry['number']}  {_time(entry)}  {what} by {by}{_session_told(entry)}{_transaction(entry)}")
        before = (known or {}) if entry.get("before") == MISSING else _fields(entry.get("before"))
        for line in _differences(before, _fields(entry.get("after")), entry.get("changed")):
            click.echo(f"    {line}")
        if entry.get("before") == MISSING:
            click.echo("    (the source does not record what was there before)")
        known = {**before, **{name: value for name, value in _fields(entry.get("after")).items() if value != UNCHANGED}}
    if known is None:
        click.echo('No entries of this row. Keys of several columns: --row \'{"order_id": 1, "line": 2}\'')


def _parts(entry: Entry) -> Iterator[str]:
    yield f"#{entry['number']}"
    yield _time(entry)
    yield " ".join(str(entry[name]) for name in ("source", "table") if entry.get(name))
    yield str(entry.get("operation") or entry["kind"])
    key = entry.get("key")
    if key:
        yield _cut(", ".join(f"{name}={shown(value)}" for name, value in key.items()))
    yield ", ".join(entry.get("changed") or ())
    yield _more(entry)
    if entry.get("actor"):
        yield f"by {shown(entry['actor'])}"
    if user := _session(entry).get("session_user"):
        yield f"session_user {shown(user)}"


def _session(entry: Entry) -> dict[str, str | None]:
    """What the source's server knew of who made the change, in the order in which it is shown."""
    found = entry.get("session") or {}
    return {name: found.get(name) for name in _SESSION}


def _more(entry: Entry) -> str:
    told = ((name, entry[name]) for name in TOLD.get(entry["kind"], ()) if entry.get(name))
    return " ".join(f"{name} {_list(value)}" if isinstance(value, list) else shown(value) for name, value in told)


def _list(values: list[Any]) -> str:
    return ", ".join(map(shown, values))


def _differences(before: Entry, after: Entry, changed: list[str] | None) -> Iterator[str]:
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if new == UNCHANGED or old == new or (changed is not None and is_sealed(new) and name not in changed):
            continue
        if old is _ABSENT:
            yield click.style(f"+ {name}: {shown(new)}", fg="green")
        elif new is _ABSENT:
            yield click.style(f"- {name}: {shown(old)}", fg="red")
        else:
            yield f"~ {name}: {shown(old)} -> {shown(new)}"


def _fields(row: Any) -> Entry:
    return row if isinstance(row, dict) and row != MISSING else {}


def shown(value: Any) -> str:
    """A value of an entry for people: texts as JSON has them when they hold more than plain characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value and value.isprintable() and value == value.strip() else json.dumps(value)
    if value == MISSING:
        return "not recorded"
    if value == UNCHANGED:
        return "unchanged"
    if is_sealed(value):
        return "encrypted"
    if value in (FORGOTTEN, UNREADABLE):
        return "forgotten" if value == FORGOTTEN else "unreadable"
    return json.dumps(value, ensure_ascii=False)


def _time(entry: Entry) -> str:
    return str(entry.get("committed_at") or entry.get("recorded_at") or UNKNOWN)


def _transaction(entry: Entry) -> str:
    transaction = entry.get("transaction") or {}
    number = transaction.get("id") or transaction.get("position")
    return f", transaction {number}" if number else ""


def _session_told(entry: Entry) -> str:
    return "".join(f", {name} {shown(value)}" for name, value in _session(entry).items() if value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 1]}…"
