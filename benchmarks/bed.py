"""The servers of one run: a source and a target PostgreSQL, Redis, MongoDB, all with default durability."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from worker_sync.embedded import EmbeddedMongo, EmbeddedMysql, EmbeddedPostgres, EmbeddedRedis, MissingProgram
from worker_sync.embedded.mysql import mariadb_installation

T = TypeVar("T")

DATABASE: Final = "bench"

#: Both sides are timed by the commit time that the servers themselves note for each transaction.
SETTINGS: Final = {"track_commit_timestamp": "on", "max_wal_size": "4GB"}


@dataclass(frozen=True, slots=True)
class Bed:
    """URLs of running servers, and a directory for what a run writes.

    `control` is a database that does not exist yet; `documents` and `mysql` (a MariaDB) are empty when nobody needs
    them, the latter also where no server is on the machine.
    """

    directory: Path
    source: str
    target: str
    control: str
    broker: str
    documents: str
    mysql: str


@contextmanager
def servers(*, engines: bool) -> Iterator[Bed]:
    """Start the servers in a temporary directory; stop them and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="worker-sync-bench-") as name:
        directory = Path(name)
        # PostgreSQL doesn't run as root; the user that it runs as must be able to pass through.
        directory.chmod(0o711)
        source = EmbeddedPostgres(directory / "source", SETTINGS, database=DATABASE)
        target = EmbeddedPostgres(directory / "target", SETTINGS, database=DATABASE)
        redis = EmbeddedRedis(directory / "redis")
        others = _others(directory) if engines else []
        wanted = [source, target, redis, *others]
        try:
            source_url, target_url, broker, *rest = _together([server.start for server in wanted])
            # Beside the target's data, so that no third PostgreSQL shares the machine.
            control = urlsplit(target_url)._replace(path="/control").geturl()
            documents, mysql = [*rest, "", ""][:2]
            yield Bed(directory, source_url, target_url, control, broker, documents, mysql)
        finally:
            _together([server.stop for server in wanted])


def _others(directory: Path) -> list[EmbeddedMongo | EmbeddedMysql]:
    """MongoDB, and MariaDB where its programs are."""
    mongo = EmbeddedMongo(directory / "mongodb")
    try:
        return [mongo, EmbeddedMysql(directory / "mariadb", mariadb_installation())]
    except MissingProgram:
        return [mongo]


def _together(calls: list[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
