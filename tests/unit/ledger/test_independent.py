"""Two verifiers that share no code come to the same outcome, whatever was done to an export."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ledger.independent import PROGRAM, agreed, command_line, outcome
from tests.unit.ledger.ledgers import NEW, OLD, SIZE, STRANGER, Lines, entry, grown, note_at, relined
from worker_sync.ledger.canonical import canonical

TRUE = grown(SIZE)[0]
FORGED = grown(SIZE, actor="emma")[0]
SIGNERS = [[OLD], [OLD], [NEW], [OLD, NEW], [STRANGER]]


def test_the_example_is_short_and_uses_nothing_of_ours() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} - sys.stdlib_module_names == {"cryptography"}
    assert len(text.splitlines()) <= 200


def test_the_example_runs_alone(export: Path) -> None:
    command = [sys.executable, "-I", *command_line(export, [OLD.verifier_key], [], None)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome(done.returncode, done.stdout) == (0, set(), SIZE), done.stderr


def test_the_example_explains_itself() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "--help"], capture_output=True, text=True, check=True)
    assert "--key NAME+ID+BASE64" in done.stdout


@settings(deadline=None, max_examples=150)
@given(st.randoms(use_true_random=False))
def test_both_say_the_same_of_any_damage(random: Random) -> None:
    with TemporaryDirectory() as directory:
        export = Path(directory) / "export"
        ledger = random.choice([TRUE, TRUE, FORGED])
        first, anchors = random.choice([0, 0, random.randrange(SIZE)]), []
        end = random.randint(first, SIZE)
        notes = [
            note_at(random.choice([ledger, ledger, TRUE]), random.randint(0, SIZE), *random.choice(SIGNERS))
            for _ in range(random.randrange(4))
        ]
        if random.random() < 0.5:
            anchors.append(note_at(TRUE, random.randint(0, SIZE), *random.choice(SIGNERS)))
        prove = range(SIZE + 1) if random.random() < 0.5 else ()
        ledger.export(export, notes, first, end, prove)
        for _ in range(random.randrange(4)):
            random.choice([damage_lines, damage_file])(export, random)
        agreed(export, *random.choice([[OLD], [OLD, NEW]]), anchors=anchors, expect=random.choice([None, (first, end)]))


def damage_lines(export: Path, random: Random) -> None:
    def damaged(lines: Lines) -> Lines:
        if not lines:
            return lines
        one, other = random.randrange(len(lines)), random.randrange(len(lines))
        invented = canonical(entry(random.randrange(SIZE + 5), kind="gap")) + b"\n"
        swapped = [*lines]
        swapped[one], swapped[other] = swapped[other], swapped[one]
        deleted = [*lines[:one], *lines[one + 1 :]]
        return random.choice(
            [
                swapped,
                deleted,
                [*lines[:one], lines[other], *lines[one:]],
                [*lines[:one], lines[one].replace(b"anna", b"emma"), *lines[one + 1 :]],
                [*lines[:one], invented, *lines[one:]],
            ]
        )

    relined(export, damaged)


def damage_file(export: Path, random: Random) -> None:
    path = random.choice(sorted(path for path in export.rglob("*") if path.is_file()))
    data = path.read_bytes()
    at = random.randint(0, len(data))
    more = random.randbytes(random.randrange(40))
    flipped = bytes([data[at] ^ 1 << random.randrange(8)]) if at < len(data) else b""
    path.write_bytes(random.choice([data[:at], data[:at] + more + data[at:], data[:at] + flipped + data[at + 1 :]]))
