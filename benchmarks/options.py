"""How much a run does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NAMES: Final = (
    "throughput",
    "large",
    "drain",
    "scaling",
    "idle",
    "lag",
    "decode",
    "capture",
    "engines",
    "verify",
    "audit",
    "debezium",
)


@dataclass(frozen=True, slots=True)
class Options:
    """`rows` of each side of a throughput pair, `pairs` of sides, `seconds` of each lag run at `rates` a second,
    `samples` of idle lag."""

    only: tuple[str, ...]
    rows: int
    pairs: int
    seconds: float
    rates: tuple[int, ...]
    samples: int
    json: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Options of a command line. Ends the process with code 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_names, default=NAMES, metavar="NAMES", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rows", type=int, default=300_000, help="rows of each throughput run (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of throughput runs (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each lag run (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE too")
    parser.add_argument("--quick", action="store_true", help="everything once, very small: does it run at all?")
    given = parser.parse_args(arguments)
    if given.quick:
        return Options(given.only, 5_000, 1, 0.5, (200,), 5, given.json)
    return Options(given.only, given.rows, given.pairs, given.seconds, (1_000, 10_000), 200, given.json)


def _names(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = set(chosen) - set(NAMES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no benchmark {', '.join(sorted(unknown))} (known: {', '.join(NAMES)})")
    return chosen
