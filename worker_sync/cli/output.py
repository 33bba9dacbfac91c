"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

#: What stands for a value that is not known.
UNKNOWN: Final = "-"

COLOURS: Final = {"ok": "green", "running": "green", "failed": "red", "halted": "red", "unknown": "yellow"}


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell, numbers to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    right = [any(isinstance(row[index], int | float) for row in rows) for index in range(len(headings))]
    click.secho(_line(headings, widths, right), bold=True)
    for row in cells:
        click.echo(_line(row, widths, right))


def _text(value: Any) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    aligned = zip(cells, widths, right, strict=True)
    line = "  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in aligned)
    return line.rstrip()


def mark(word: str) -> str:
    """A word of `COLOURS` in its colour, where the terminal has any."""
    return click.style(word, fg=COLOURS.get(word))


def human_bytes(size: int | None) -> str | None:
    """`1536` is 1.5 KiB."""
    if size is None:
        return None
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def is_terminal() -> bool:
    return sys.stdout.isatty()
