"""How letters, and what becomes of them, are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from worker_sync.cli.output import print_json, print_table
from worker_sync.store.dead_letters import DeadLetter, LetterKind, LetterStatus


def as_dict(letter: DeadLetter) -> dict[str, Any]:
    """The letter as JSON has it."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(letter).items()}


def content_of(letter: DeadLetter, payload: bytes) -> dict[str, Any]:
    """What may be shown of a payload: of tasks their arguments, of rows and messages the size."""
    from tasks.letters import decode_arguments

    if letter.kind is LetterKind.TASK:
        try:
            args, kwargs = decode_arguments(payload)
        except ValueError:
            return {"payload_bytes": len(payload)}
        return {"args": args, "kwargs": kwargs}
    return {"payload_bytes": len(payload)}


def print_letters(letters: Sequence[DeadLetter]) -> None:
    """Print letters as a table."""
    if not letters:
        click.echo("No letters.")
        return
    print_table(
        ["id", "kind", "status", "about", "key", "attempts", "parked", "error"],
        [
            [
                str(letter.id),
                str(letter.kind),
                str(letter.status),
                _about(letter),
                _cut(letter.key, 24),
                letter.attempts,
                letter.parked_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
                _cut(letter.error, 60),
            ]
            for letter in letters
        ],
    )


def _about(letter: DeadLetter) -> str:
    return letter.task or " ".join(part for part in (letter.pipeline, letter.table) if part) or letter.queue


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def next_steps(letter: DeadLetter) -> Iterator[str]:
    """The commands that decide about a letter; none once it is decided."""
    if letter.status is LetterStatus.PARKED:
        yield "Next, once the cause is mended:"
        yield f"  worker-sync dead-letters replay {letter.id} --wait"
        yield f"  worker-sync dead-letters discard {letter.id}"


def tell_nothing(as_json: bool, what: str) -> int:
    """Say that no letter is meant; returns the exit code."""
    if as_json:
        print_json({"letters": []})
    click.echo(f"There is nothing to {what}: no parked letter is meant.", err=True)
    return 1


def tell_would(letters: Sequence[DeadLetter], what: str, as_json: bool) -> int:
    """Say what a dry run would have done; returns the exit code."""
    if as_json:
        print_json({"dry_run": True, "letters": [as_dict(letter) for letter in letters]})
        return 0
    print_letters(letters)
    click.echo(f"{len(letters):,} letters would be {what}.")
    return 0


def print_decided(decided: Sequence[Any], as_json: bool) -> int:
    """Print what became of letters; returns the exit code, 1 when one is as it was."""
    from tasks import deciding

    if as_json:
        print_json(
            {
                "letters": [
                    {
                        "id": one.letter.id,
                        "kind": str(one.letter.kind),
                        "pipeline": one.letter.pipeline,
                        "table": one.letter.table,
                        "key": one.letter.key,
                        "task": one.letter.task,
                        "outcome": one.outcome,
                        "detail": one.detail,
                        "signal": one.signal,
                    }
                    for one in decided
                ]
            }
        )
    else:
        print_table(
            ["id", "about", "key", "outcome", "detail"],
            [
                [str(one.letter.id), _about(one.letter), _cut(one.letter.key, 24), one.outcome, one.detail]
                for one in decided
            ],
        )
        if any(one.outcome == "asked" for one in decided):
            click.echo("The capture reads the rows anew. Next: worker-sync dead-letters list, or replay with --wait")
    return 1 if deciding.failed(decided) else 0
