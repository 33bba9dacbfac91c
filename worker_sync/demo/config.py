"""The configuration that the demo writes: the same file that anyone would write."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final

import yaml

from worker_sync.demo.servers import DemoServers

TO_POSTGRES: Final = "flights-to-postgres"
TO_MONGODB: Final = "flights-to-mongodb"
TO_MYSQL: Final = "flights-to-mariadb"


def write_config(servers: DemoServers) -> Path:
    """Write the file, readable by its owner only: it holds the servers' passwords."""
    path = servers.directory / "worker-sync.yaml"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(_document(servers), file, sort_keys=False)
    return path


def _document(servers: DemoServers) -> dict[str, Any]:
    targets = {"reporting": (TO_POSTGRES, servers.target), "documents": (TO_MONGODB, servers.documents)}
    if servers.mysql:
        targets["warehouse"] = (TO_MYSQL, servers.mysql)
    return {
        "state_dir": "state",
        "databases": {
            "airports": {"url": servers.source},
            **{database: {"url": url} for database, (_, url) in targets.items()},
        },
        "pipelines": {
            pipeline: {"source": "airports", "target": database, "tables": ["public.*"]}
            for database, (pipeline, _) in targets.items()
        },
        "audit": {"airports": {"tables": ["public.*"]}},
        "ledger": {"origin": "demo/airports"},
        "exporter": {"port": _port(9808)},
        "flower": {"port": _port(5555)},
    }


def _port(wanted: int) -> int:
    """The usual port, or a free one where that is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("no free port on 127.0.0.1")
