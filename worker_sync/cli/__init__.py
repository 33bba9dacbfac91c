"""The command line: the one place that knows every part and puts them together."""

from worker_sync.cli.entry import main

__all__ = ["main"]
