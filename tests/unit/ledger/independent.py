"""Runs examples/verify_ledger.py beside our own verification, and holds the two together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.unit.ledger.ledgers import OLD, verified
from worker_sync.ledger.findings import Report
from worker_sync.ledger.note import Signer

PROGRAM = Path(__file__).parents[3] / "examples" / "verify_ledger.py"


def independently(
    export: Path,
    *signers: Signer,
    anchors: Sequence[str] = (),
    expect: tuple[int, int] | None = None,
) -> tuple[int, set[str], int]:
    """The exit code, the kinds of findings and the number of intact entries by the example."""
    notes = [export.parent / f"anchor-{index}" for index, _ in enumerate(anchors)]
    for path, note in zip(notes, anchors, strict=True):
        path.write_text(note, encoding="utf-8", newline="\n")
    keys = [f"--key={signer.verifier_key}" for signer in signers or [OLD]]
    span = ["--range", *map(str, expect)] if expect else []
    command = [sys.executable, str(PROGRAM), str(export), *keys, *(f"--anchor={path}" for path in notes), *span]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    assert words[:1] == ["intact"], done.stderr
    return done.returncode, set(words[2:]), int(words[1])


def agreed(
    export: Path,
    *signers: Signer,
    anchors: Sequence[str] = (),
    expect: tuple[int, int] | None = None,
) -> Report:
    """Our report; the independent verifier comes to the same outcome."""
    report = verified(export, *signers, anchors=anchors, expect=expect or (0, None))
    outcome = (report.exit_code, {str(kind) for kind in report.counts}, report.intact)
    assert independently(export, *signers, anchors=anchors, expect=expect) == outcome, report
    return report
