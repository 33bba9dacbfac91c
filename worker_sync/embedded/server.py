"""What all embedded servers have in common: a directory, a port, a password, a process that is found again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from worker_sync.embedded.errors import EmbeddedServerFailed
from worker_sync.embedded.processes import Owner, Process, end_all, launch, working_in

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
PROBE_SECONDS = 0.02
"""Pause between two probes of a starting server; its end is noticed at once."""
PORT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class State:
    """What `state.json` remembers: where the server is, and where it will be again after a stop."""

    port: int
    password: str
    process: Process | None = None


class Server(ABC):
    """One server under one directory. Any process may start, find or stop it."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self.log = self.directory / f"{self.name}.log"
        self._state_file = self.directory / "state.json"

    def start(self) -> str:
        """Start it unless it runs already; its URL once it answers."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            if url := self.running():
                return url
            data = self._data()
            end_all(working_in(data), self.stop_signal, STOP_SECONDS)
            state = self._read() or State(free_port(), secrets.token_hex(16))
            self._prepare(data, state)
            state = self._launch(data, replace(state, process=None))
            try:
                self._after_start(state)
            except BaseException:
                self._end(state)
                raise
            return self._url(state)

    def running(self) -> str | None:
        """The URL of the running server; None if there is none, or it doesn't answer."""
        state = self._read()
        if state is None or state.process is None or not state.process.alive() or not self._answers(state):
            return None
        return self._url(state)

    def stop(self) -> None:
        """Stop it, whoever started it; nothing if it doesn't run."""
        if not self._state_file.exists():
            return
        with self._locked():
            if state := self._read():
                self._end(state)

    def kill(self) -> None:
        """End it as a crash would: for tests of what survives."""
        state = self._read()
        if state and state.process:
            state.process.end(signal.SIGKILL, STOP_SECONDS)

    @property
    def url(self) -> str:
        """Where it answers, or answered before it went down."""
        state = self._read()
        if state is None:
            raise EmbeddedServerFailed(f"{self.name} was never started under {self.directory}")
        return self._url(state)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        state = self._read()
        return state.process.pid if state and state.process and state.process.alive() else None

    # What each server fills in.

    @abstractmethod
    def _prepare(self, data: Path, state: State) -> None:
        """Make the data directory ready; called before every start."""

    @abstractmethod
    def _command(self, data: Path, state: State) -> list[str]: ...

    @abstractmethod
    def _answers(self, state: State) -> bool:
        """Whether it accepts work now. Refused and broken connections are a no."""

    @abstractmethod
    def _url(self, state: State) -> str: ...

    def _after_start(self, state: State) -> None:
        """Finish the first start; must be repeatable."""
        return

    def _owner(self) -> Owner | None:
        return None

    def _data(self) -> Path:
        """The data directory, resolved: it is also the process's working directory, by which it is found."""
        data = self.directory / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        return data.resolve()

    def _move(self, data: Path, old: State, new: State) -> None:
        """The port changes because another program took it while the server was down."""
        return  # most servers keep their port in their command line only

    # How they start and end.

    def _launch(self, data: Path, state: State) -> State:
        for _ in range(PORT_ATTEMPTS):
            if not port_is_free(state.port):
                moved = replace(state, port=free_port())
                self._move(data, state, moved)
                state = moved
                self._prepare(data, state)
            with open_log(self.log) as log:
                process = launch(self._command(data, state), cwd=data, log=log, owner=self._owner())
            state = replace(state, process=process)
            self._write(state)
            try:
                if self._await(state, self._answers):
                    return state
            except BaseException:
                self._end(state)
                raise
            # It ended. Someone may have taken the port between our look and its bind; anything else is final.
            if port_is_free(state.port):
                break
        self._write(replace(state, process=None))
        raise EmbeddedServerFailed(f"{self.name} ended at its start; {self.log} ends with:\n{self._log_tail()}")

    def _await(self, state: State, condition: Callable[[State], bool]) -> bool:
        """Whether the condition came true; False if the server ended first."""
        assert state.process is not None
        deadline = time.monotonic() + READY_SECONDS
        while not condition(state):
            if state.process.wait(PROBE_SECONDS):
                return False
            if time.monotonic() > deadline:
                raise EmbeddedServerFailed(
                    f"{self.name} is not ready after {READY_SECONDS:.0f} s; {self.log} ends with:\n{self._log_tail()}"
                )
        return True

    def _end(self, state: State) -> None:
        if state.process:
            state.process.end(self.stop_signal, STOP_SECONDS)
        end_all(working_in(self._data()), self.stop_signal, STOP_SECONDS)
        self._write(replace(state, process=None))

    def _log_tail(self, lines: int = 8) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _read(self) -> State | None:
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=State)
        except FileNotFoundError:
            return None

    def _write(self, state: State) -> None:
        write_private(self._state_file, msgspec.json.encode(state))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: the remains of closed connections don't keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def open_log(path: Path) -> BinaryIO:
    """Logs can quote data, so only their owner reads them."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def write_private(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)
