"""The command `worker-sync probe` without the command line's library: it must cost milliseconds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from worker_sync.core.alive import CONFIG, MAX_AGE_S, ROLES, probe, run_directory


class _Help(argparse.HelpFormatter):
    """Begins as the other commands' help does."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 when all is well, 1 when it is not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        "worker-sync probe",
        usage="worker-sync probe [OPTIONS] [ROLE]",
        description="Whether the processes here are alive.",
        formatter_class=_Help,
    )
    parser.add_argument("role", nargs="?", choices=ROLES, help="only processes of this role")
    parser.add_argument("--name", help="only the one with this name: a worker's --name, a capture's source")
    parser.add_argument("--max-age", type=float, default=MAX_AGE_S, metavar="S", help="seconds of silence (30)")
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready for work, too")
    parser.add_argument("-c", "--config", default=os.environ.get(CONFIG), help=f"the configuration file (${CONFIG})")
    given = parser.parse_args(arguments)
    problems = probe(given.role, given.name, given.max_age, run_directory(given.config), ready=given.ready)
    for problem in problems:
        sys.stderr.write(f"worker-sync: {problem}\n")
    return int(bool(problems))
