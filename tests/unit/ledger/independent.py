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


def command_line(export: Path, signers: Sequence[Signer], anchors: Sequence[str], expect: Range) -> list[str]:
    notes = [export.parent / f"anchor-{index}" for index, _ in enumerate(anchors)]
    for path, note in zip(notes, anchors, strict=True):
        path.write_text(note, encoding="utf-8", newline="\n")
    keys = [f"--key={signer.verifier_key}" for signer in signers]
    span = ["--range", *map(str, expect)] if expect else []
    return [str(PROGRAM), str(export), *keys, *(f"--anchor={path}" for path in notes), *span]


def outcome(code: int | str | None, printed: str) -> Outcome:
    words = printed.split()
    assert words[:1] == ["intact"], printed
    assert isinstance(code, int)
    return code, set(words[2:]), int(words[1])


def agreed(export: Path, *signers: Signer, anchors: Sequence[str] = (), expect: Range = None) -> Report:
    """Our report; the independent verifier comes to the same outcome."""
    report = verified(export, *signers, anchors=anchors, expect=expect or (0, None))
    arguments, printed = command_line(export, signers or [OLD], anchors, expect), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(PROGRAM), run_name="__main__")
    ours = (report.exit_code, {str(kind) for kind in report.counts}, report.intact)
    assert outcome(ended.value.code, printed.getvalue()) == ours, report
    return report
