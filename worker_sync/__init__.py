"""Worker-Sync: everything that is neither an engine, nor a task, nor a schedule."""

from importlib.metadata import version

__version__ = version("worker-sync")
