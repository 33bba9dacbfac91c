"""The partitions of a table, and which rows came or went with one of them. No I/O.

A log tells of rows, not of partitions: those that a table brings when it is attached, and those that are gone when a
partition is detached, dropped or emptied by itself, stand in no log that is read by the table as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Partition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One partition, at any level.

    `link` is another one once it was attached anew; `rows` once it may have lost rows by itself, by whatever gave it
    another `file`; `by` is the transaction that gave it this one. `told`: all its rows have been in the log.
    """

    name: str
    link: str
    file: str = ""
    rows: str = ""
    by: str = ""
    told: bool = False


class Partitions(msgspec.Struct, frozen=True):
    """A table's partitions by what stays with each while it is one. `ended` is a transaction number below which all
    transactions had ended when they were looked at."""

    ended: str
    members: dict[str, Partition]


def moved(before: Partitions, now: Partitions, *, truncated: bool = False) -> list[str]:
    """In words, which partitions brought rows or took rows away without a word in the log. `truncated`: in between the
    log told that the table as a whole was emptied."""
    kept = before.members.keys() & now.members.keys()
    again = {key for key in kept if before.members[key].link != now.members[key].link}
    gone = before.members.keys() - kept
    new = [now.members[key] for key in sorted(now.members.keys() - kept)]
    emptied = {key for key in kept - again if before.members[key].rows != now.members[key].rows}
    if truncated and _is_all_at_once(emptied, kept - again, now):
        emptied = set()
    return [
        *_told(before, gone, "was detached or dropped"),
        *_told(now, again, "was detached and attached again"),
        *_told(now, emptied, "was truncated or rewritten by itself"),
        *(f"partition {one.name} was attached with rows" for one in new if not one.told),
    ]


def _is_all_at_once(emptied: set[str], kept: set[str], now: Partitions) -> bool:
    """Whether one transaction emptied every partition that has rows of its own."""
    with_rows = {key for key in kept if now.members[key].file}
    return emptied == with_rows and len({now.members[key].by for key in emptied}) <= 1


def _told(of: Partitions, keys: Iterable[str], what: str) -> list[str]:
    return [f"partition {of.members[key].name} {what}" for key in sorted(keys)]
