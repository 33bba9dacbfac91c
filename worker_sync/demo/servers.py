"""The demo's servers: a source and targets of its own, and those that `up` would start anyway."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from worker_sync.embedded import EmbeddedMysql, EmbeddedPostgres, EmbeddedServers, MissingProgram
from worker_sync.embedded.mysql import mariadb_installation

DATABASE: Final = "flights"


class DemoServers:
    """Starts all servers at once; who closes it stops them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shared = EmbeddedServers(directory / "state")
        self._source = EmbeddedPostgres(directory / "source", database=DATABASE)
        self._target = EmbeddedPostgres(directory / "target", database=DATABASE)
        self._mysql = _mysql(directory / "mysql")
        self.source = self.target = self.documents = self.mysql = ""

    @property
    def own(self) -> list[Path]:
        """Directories of the servers that nobody shares."""
        return [server.directory for server in (self._source, self._target, self._mysql) if server is not None]

    @property
    def names(self) -> str:
        """What is started, in words."""
        mysql = "a MariaDB, " if self._mysql is not None else ""
        return f"two PostgreSQL, {mysql}a MongoDB, a Redis and a PostgreSQL as control store"

    def start(self) -> None:
        self.shared.open()
        starts: list[Callable[[], str]] = [
            self._source.start,
            self._target.start,
            self.shared.mongodb,
            self.shared.postgres,
            self.shared.redis,
            self._mysql.start if self._mysql is not None else str,
        ]
        with ThreadPoolExecutor(len(starts)) as pool:
            running = [pool.submit(start) for start in starts]
        self.source, self.target, documents, _, _, self.mysql = [future.result() for future in running]
        self.documents = documents.replace("/?", f"/{DATABASE}?", 1)

    def close(self) -> None:
        """Stop everything; servers that a user of the state directory still needs run on."""
        stops: list[Callable[[], None]] = [self._source.stop, self._target.stop, self.shared.close]
        if self._mysql is not None:
            stops.append(self._mysql.stop)
        with ThreadPoolExecutor(len(stops)) as pool:
            running = [pool.submit(stop) for stop in stops]
        for future in running:
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mysql(directory: Path) -> EmbeddedMysql | None:
    """A MariaDB, where this machine has its programs."""
    try:
        return EmbeddedMysql(directory, mariadb_installation(), database=DATABASE)
    except MissingProgram:
        return None
