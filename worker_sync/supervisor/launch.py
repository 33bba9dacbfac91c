"""Become another program that does not outlive its parent: launch.py PARENT-PID PROGRAM ARGUMENT...

Run as a file of its own, with nothing imported but what it needs: it stands before the start of every child. The
parent is the thread that started us; the kernel sends SIGTERM when it is gone.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before we asked
        raise SystemExit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
