"""What everything about audit triggers calls things."""

from __future__ import annotations

from typing import Final

#: In front of the URL of a database that is captured by triggers.
SCHEME_PREFIX: Final = "triggers+"
SCHEMA: Final = "worker_sync_audit"
#: Triggers fire in the order of their names, and this one comes before those of foreign keys: what a cascade does is
#: recorded behind what set it off, as it stands in the log.
ROW_TRIGGER: Final = "00_worker_sync_audit"
TRUNCATE_TRIGGER: Final = "00_worker_sync_audit_truncate"
#: Of `schema.sql`: raise it with every change there, so that `install` brings it to databases that have an older one.
VERSION: Final = 2
#: The first of two keys of advisory locks; the second: 1 reading the stream, 2 cutting windows or setting up.
LOCK: Final = 2004042068

#: Behind the number of a window, the place of a transaction in it; both in hex.
_NUMBER: Final = 16
_PLACE: Final = 8


def position(number: int, place: int) -> str:
    """The commit position of a window's transaction; places count from 1."""
    return f"{number:0{_NUMBER}x}{place:0{_PLACE}x}"


def parse(commit: str) -> tuple[int, int]:
    """Number and place; (0, 0) for the beginning."""
    return (int(commit[:_NUMBER], 16), int(commit[_NUMBER:], 16)) if commit else (0, 0)


def install_command(source: str) -> str:
    return f"worker-sync audit triggers install {source}"
