"""The console script; `python -m worker_sync` is `worker-sync`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. A probe leaves out what it doesn't need, which is nearly everything."""
    if sys.argv[1:2] == ["probe"]:
        from worker_sync.core import probing

        sys.exit(probing.main(sys.argv[2:]))
    from worker_sync.cli import main as run

    run()


if __name__ == "__main__":
    main()
