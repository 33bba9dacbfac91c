"""Runs examples/verify_ledger.py beside our own verification, and holds the two together."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.unit.ledger.ledgers import OLD, verified
from worker_sync.ledger.findings import Report
from worker_sync.ledger.note import Signer

PROGRAM = Path(__file__).parents[3] / "examples" / "verify_ledger.py"

Range = tuple[int, int] | None
Outcome = tuple[int, set[str], int]
"""Exit code, kinds of findings, number of intact entries."""


def command_line(export: Path, keys: Sequence[str], anchors: Sequence[str], expect: Range) -> list[str]:
    notes = [export.parent / f"anchor-{index}" for index, _ in enumerate(anchors)]
    for path, note in zip(notes, anchors, strict=True):
        path.write_text(note, encoding="utf-8", newline="\n")
    span = ["--range", *map(str, expect)] if expect else []
    return [
        str(PROGRAM),
        str(export),
        *(f"--key={key}" for key in keys),
        *(f"--anchor={path}" for path in notes),
        *span,
    ]


def outcome(code: int | str | None, printed: str) -> Outcome:
    words = printed.split()
    assert words[:1] == ["intact"], printed
    assert isinstance(code, int)
    return code, set(words[2:]), int(words[1])


def run_independent(export: Path, keys: Sequence[str], anchors: Sequence[str] = (), expect: Range = None) -> Outcome:
    """What the independent verifier says of an export."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.setattr(sys, "argv", command_line(export, keys, anchors, expect))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PROGRAM), run_name="__main__")
    return outcome(ended.value.code, printed.getvalue())


def agreed(export: Path, *signers: Signer, anchors: Sequence[str] = (), expect: Range = None) -> Report:
    """Our report; the independent verifier comes to the same outcome."""
    report = verified(export, *signers, anchors=anchors, expect=expect or (0, None))
    ours = (report.exit_code, {str(kind) for kind in report.counts}, report.intact)
    keys = [signer.verifier_key for signer in signers or [OLD]]
    assert run_independent(export, keys, anchors, expect) == ours, report
    return report
