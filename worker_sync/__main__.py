"""`python -m worker_sync` is `worker-sync`."""

from worker_sync.cli import main

if __name__ == "__main__":
    main()
