"""Stops embedded servers when the process that wanted them was killed and could not do it.

Embedded servers run on after a crash of their last user, who may come back. A program that is started for a while
(`up`, `demo`) leaves a guardian beside it: a small process that waits for the end of its ward and then becomes the
servers' last user, or stops the ones that belong to the ward alone.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worker_sync.embedded import EmbeddedPostgres, EmbeddedServers


class Guardian:
    """Watches over the calling process. `shared` is the state directory of shared servers, `own` are directories of
    PostgreSQL servers that nobody else uses."""

    def __init__(self, shared: Path, own: Sequence[Path] = ()) -> None:
        command = [sys.executable, "-m", "worker_sync.supervisor.guardian", str(os.getpid()), str(shared)]
        self._process = subprocess.Popen(
            [*command, *map(str, own)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End it without letting it act: the servers were stopped, or are to stay."""
        self._process.kill()
        self._process.wait()


def await_end(pid: int) -> None:
    """Return once our parent, the process `pid`, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if os.getppid() == pid:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str]) -> None:
    ward, shared, *own = arguments
    await_end(int(ward))
    for directory in own:
        EmbeddedPostgres(directory).stop()
    if Path(shared).is_dir():
        with EmbeddedServers(shared):
            pass  # whoever leaves last stops them


if __name__ == "__main__":
    main(sys.argv[1:])
