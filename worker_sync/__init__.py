"""Worker-Sync: everything that is neither an engine, nor a task, nor a schedule."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, looked up when asked for: the look-up costs more than a whole `worker-sync probe`."""
    if name == "__version__":
        from importlib.metadata import version

        return version("worker-sync")
    raise AttributeError(name)
