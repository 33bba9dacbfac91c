"""What a figure means nothing without: the machine, the versions, the durability of the servers."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

_SETTINGS: Final = ("fsync", "synchronous_commit", "wal_level", "shared_buffers", "track_commit_timestamp")


def describe(postgres: str) -> dict[str, Any]:
    """The machine, with versions and the settings of the PostgreSQL at this URL."""
    with psycopg.connect(postgres) as connection:
        settings = {name: _show(connection, name) for name in _SETTINGS}
        server = _show(connection, "server_version")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "postgresql": server,
        **{name: version(name) for name in ("celery", "kombu", "psycopg", "msgspec", "redis")},
        **settings,
    }


def _show(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
