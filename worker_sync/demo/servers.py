"""The demo's servers: a source and a target PostgreSQL of its own, and those that `up` would start anyway."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from worker_sync.embedded import EmbeddedPostgres, EmbeddedServers

DATABASE: Final = "flights"


class DemoServers:
    """Starts all servers at once; who closes it stops them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shared = EmbeddedServers(directory / "state")
        self._source = EmbeddedPostgres(directory / "source", database=DATABASE)
        self._target = EmbeddedPostgres(directory / "target", database=DATABASE)
        self.source = self.target = self.documents = ""

    @property
    def own(self) -> list[Path]:
        """Directories of the servers that nobody shares."""
        return [self._source.directory, self._target.directory]

    def start(self) -> None:
        self.shared.open()
        starts: list[Callable[[], str]] = [
            self._source.start,
            self._target.start,
            self.shared.mongodb,
            self.shared.postgres,
            self.shared.redis,
        ]
        with ThreadPoolExecutor(len(starts)) as pool:
            running = [pool.submit(start) for start in starts]
        self.source, self.target, documents, _, _ = [future.result() for future in running]
        self.documents = documents.replace("/?", f"/{DATABASE}?", 1)

    def close(self) -> None:
        """Stop everything; servers that a user of the state directory still needs run on."""
        stops: list[Callable[[], None]] = [self._source.stop, self._target.stop, self.shared.close]
        with ThreadPoolExecutor(len(stops)) as pool:
            running = [pool.submit(stop) for stop in stops]
        for future in running:
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
