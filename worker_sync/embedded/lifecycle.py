"""The servers of one `state_dir`, shared by the processes that use them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from worker_sync.embedded.mongodb import EmbeddedMongo
from worker_sync.embedded.postgres import EmbeddedPostgres
from worker_sync.embedded.redis import EmbeddedRedis
from worker_sync.embedded.server import Server


class EmbeddedServers:
    """Servers that start when they are first asked for, and stop when the last process that uses them leaves.

    Each user holds a shared lock on one file, which the system lets go however the process ends. Who leaves tries to
    get it exclusively: that works for the last one only, which then stops the servers. After a crash of the last user
    they run on, and the next user finds them.
    """

    def __init__(self, state_dir: Path | str, *, postgres_settings: Mapping[str, str] | None = None) -> None:
        self.state_dir = Path(state_dir).absolute()
        self._postgres = EmbeddedPostgres(self.state_dir / "postgres", postgres_settings)
        self._redis = EmbeddedRedis(self.state_dir / "redis")
        self._mongodb = EmbeddedMongo(self.state_dir / "mongodb")
        self._users: int | None = None
        self._opened_by = 0

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Self:
        """Become a user. Waits while a leaving process stops the servers."""
        if self._users is None:
            # Root's PostgreSQL runs as another user, who must be able to pass through.
            self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
            self._users = os.open(self.state_dir / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            self._opened_by = os.getpid()
            fcntl.flock(self._users, fcntl.LOCK_SH)
        return self

    def close(self) -> None:
        """Leave; the last user stops the servers. A forked child leaves its parent's place alone."""
        if self._users is None or self._opened_by != os.getpid():
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for server in self.all():
                server.stop()
        finally:
            os.close(self._users)
            self._users = None

    def postgres(self) -> str:
        """The URL of the PostgreSQL server, started if need be."""
        return self._start(self._postgres)

    def redis(self) -> str:
        """The URL of the Redis server, started if need be."""
        return self._start(self._redis)

    def mongodb(self) -> str:
        """The URL of the MongoDB server, started if need be."""
        return self._start(self._mongodb)

    def all(self) -> tuple[Server, ...]:
        return (self._redis, self._mongodb, self._postgres)

    def _start(self, server: Server) -> str:
        self.open()
        return server.start()
