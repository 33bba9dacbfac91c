"""MariaDB or MySQL from programs that this machine has: no wheel carries either."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker_sync.embedded.errors import EmbeddedServerFailed, MissingProgram
from worker_sync.embedded.server import Server, State, open_log, write_private

USER = "worker_sync"
ANSWER_SECONDS = 2.0
#: First byte of a greeting, after the packet's header of four bytes; an error packet has 0xff there.
PROTOCOL_10 = 10

#: Everything that a source needs, and little memory.
SETTINGS = {
    "log-bin": "binlog",
    "server-id": "1",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "binlog-row-metadata": "FULL",
    "innodb-buffer-pool-size": "64M",
    "max-connections": "300",
    # Whoever only looks whether the port answers is not an attacker.
    "max-connect-errors": "1000000",
    "skip-name-resolve": "ON",
    "performance-schema": "OFF",
    "skip-external-locking": "ON",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """Programs of one server: how to run it, how to make its data directory, and what each must be told."""

    scheme: str
    server: tuple[str, ...]
    options: Mapping[str, str]
    install: tuple[str, ...]
    initial: Mapping[str, str]


def mariadb_installation() -> Installation:
    """The MariaDB that this machine's package manager brought. Raises MissingProgram."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
    server, install = (shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db"))
    if server is None or install is None:
        raise MissingProgram("mariadbd; on Debian: apt-get install mariadb-server-core mariadb-client-core")
    initial = {"auth-root-authentication-method": "normal", "skip-name-resolve": "ON"}
    return Installation("mariadb", (server,), {}, (install,), initial)


def mysql_installation(root: Path) -> Installation:
    """The MySQL in a directory of unpacked Debian packages, run with the libraries beside it. Raises MissingProgram."""
    server = root / "usr/sbin/mysqld"
    loader = next(root.glob("usr/lib*/ld-linux*.so.*"), None)
    if loader is None or not server.exists():
        raise MissingProgram(f"no mysqld under {root}")
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    command = (str(loader), "--library-path", str(libraries), str(server))
    paths = {
        "lc-messages-dir": str(root / "usr/share/mysql"),
        "character-sets-dir": str(root / "usr/share/mysql/charsets"),
        "plugin-dir": str(root / "usr/lib/mysql/plugin"),
    }
    options = {"gtid-mode": "ON", "enforce-gtid-consistency": "ON", "mysqlx": "OFF", "innodb-redo-log-capacity": "128M"}
    initial = {**paths, "initialize-insecure": "ON", "skip-log-bin": "ON", "performance-schema": "OFF"}
    return Installation("mysql", command, {**paths, **options}, command, initial)


class EmbeddedMysql(Server):
    """A MariaDB or MySQL with a row log, on a loopback port, behind a generated password.

    It runs as whoever starts it, root too. A `template` is the data directory of a server that was initialised only.
    A `database` is created, and named by the URL.
    """

    name = "mysql"

    def __init__(
        self,
        directory: Path | str,
        installation: Installation,
        settings: Mapping[str, str] | None = None,
        *,
        template: Path | None = None,
        database: str = "",
    ) -> None:
        super().__init__(directory)
        self._database = database
        self._template = template
        self._installation = installation
        self._settings = {**SETTINGS, **installation.options, **(settings or {})}

    def _prepare(self, data: Path, state: State) -> None:
        statements = (
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{state.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        )
        if self._database:
            statements += f"CREATE DATABASE IF NOT EXISTS `{self._database}`;\n"
        write_private(self._init_file, statements.encode())
        self._make(data)

    def initialise(self) -> Path:
        """Make the data directory without starting the server, for others to use as a template."""
        data = self._data()
        self._make(data)
        return data

    def _make(self, data: Path) -> None:
        ready = data.with_name("data.ready")
        if ready.exists():
            return
        for entry in data.iterdir():  # an initialisation that was cut short
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if self._template is not None:
            shutil.copytree(self._template, data, dirs_exist_ok=True)
        else:
            self._initialise(data)
        ready.touch()

    def _initialise(self, data: Path) -> None:
        command = [*self._installation.install, "--no-defaults", f"--datadir={data}", *_as_user()]
        command.append(f"--tmpdir={self._temporary()}")
        command += _options(self._installation.initial)
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        with open_log(self.log) as log:
            log.write((done.stdout + done.stderr).encode())
        if done.returncode:
            raise EmbeddedServerFailed(f"{command[0]} failed; {self.log} ends with:\n{self._log_tail()}")

    def _command(self, data: Path, state: State) -> list[str]:
        fixed = {
            "datadir": str(data),
            "tmpdir": str(self._temporary()),
            "bind-address": "127.0.0.1",
            "port": str(state.port),
            "socket": str(data / "mysqld.sock"),
            "pid-file": str(data / "mysqld.pid"),
            "init-file": str(self._init_file),
            "secure-file-priv": str(data),
        }
        return [*self._installation.server, "--no-defaults", *_as_user(), *_options({**self._settings, **fixed})]

    def _answers(self, state: State) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", state.port), ANSWER_SECONDS) as link:
                greeting = link.recv(5, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(greeting) == 5 and greeting[4] == PROTOCOL_10

    def _url(self, state: State) -> str:
        return f"{self._installation.scheme}://{USER}:{state.password}@127.0.0.1:{state.port}/{self._database}"

    def _temporary(self) -> Path:
        """A place of its own: a server that starts removes temporary tables, also those of others in the same place."""
        path = self.directory / "tmp"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @property
    def _init_file(self) -> Path:
        return self.directory / "init.sql"


def _as_user() -> list[str]:
    # The server refuses root unless it is told that root is meant.
    return ["--user=root"] if os.geteuid() == 0 else []


def _options(settings: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]
