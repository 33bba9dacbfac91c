"""A container engine of the tests' own: its data, its socket and its containers are in a temporary directory."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fixtures.eventually import eventually

ROOT = Path(__file__).parents[2]
START_S = 60.0
BUILD_S = 1500.0
END_S = 30.0


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Engine:
    socket: Path

    def run(self, *arguments: str | Path, seconds: float = 120.0, more: Mapping[str, str] | None = None) -> Done:
        """`docker ARGUMENTS`, however it ends, with `more` variables."""
        command = ["docker", "--host", f"unix://{self.socket}", *map(str, arguments)]
        variables = {**os.environ, **(more or {})}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=variables, cwd=ROOT
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str | Path, seconds: float = 120.0, more: Mapping[str, str] | None = None) -> str:
        """The same; what it said. It has to succeed."""
        done = self.run(*arguments, seconds=seconds, more=more)
        assert done.code == 0, f"docker {' '.join(map(str, arguments))}\n{done.out[-4000:]}\n{done.err[-4000:]}"
        return done.out.strip()

    def inspect(self, what: str) -> Any:
        return json.loads(self.must("inspect", what))[0]

    def build(self, tag: str, context: Path, *options: str) -> None:
        self.must("build", "--tag", tag, *options, context, seconds=BUILD_S)


@contextmanager
def engine(directory: Path) -> Iterator[Engine]:
    """An engine that is gone, with its containers, when the block is left."""
    socket = directory / "engine.sock"
    options = {"data-root": directory / "data", "exec-root": directory / "exec", "pidfile": directory / "pid"}
    command: Sequence[str] = [
        "dockerd",
        f"--host=unix://{socket}",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    with (directory / "engine.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Engine(socket)
    try:
        eventually(lambda: found.run("info").code == 0 or process.poll() is not None, START_S, "the engine answers")
        assert process.poll() is None, (directory / "engine.log").read_text()[-4000:]
        yield found
    finally:
        if containers := found.run("ps", "--all", "--quiet").out.split():
            found.run("rm", "--force", *containers)
        process.terminate()
        process.wait(END_S)
