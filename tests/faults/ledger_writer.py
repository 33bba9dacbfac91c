"""A process that records a trail: ``python -m tests.faults.ledger_writer URL TRAIL TRANSACTIONS CHANGES [TRAP]``.

It fences the trail and records its transactions, each as a batch of its own, until all of them are in the ledger. TRAP
is a failpoint, a file that is written when it strikes, and the signal that the process sends itself then.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from connectors.base import Outcome
from tests.faults.failpoint import set_trap
from tests.faults.failpoints import FAILPOINTS
from tests.fixtures.eventually import eventually
from tests.integration.ledger_rig import batch, fenced, inserts, opened
from worker_sync.core.errors import Transient

PATIENCE_S = 120.0


def main(arguments: list[str]) -> None:
    url, trail, transactions, changes, *trap = arguments
    if trap:
        name, mark, blow = trap
        set_trap(FAILPOINTS[name], Path(mark), signal.Signals[blow])
    with opened(url) as sink:

        def done(action: Callable[[], object]) -> bool:
            try:
                return action() != Outcome.EARLY
            except Transient:
                return False

        eventually(partial(done, sink.prepare), PATIENCE_S, "the ledger is there")
        eventually(partial(done, partial(fenced, sink, trail)), PATIENCE_S, f"{trail} is fenced")
        for number in range(1, int(transactions) + 1):
            made = batch(number, inserts(number, int(changes)), trail=trail)
            eventually(partial(done, partial(sink.apply, made)), PATIENCE_S, f"transaction {number} is recorded")


if __name__ == "__main__":
    main(sys.argv[1:])
