"""compose.yaml as it stands, in an engine of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.deploy.engine import Engine
from worker_sync.embedded.server import free_port

#: Made by scripts/test-engine: the client's directory with the plugin `compose`.
CLIENT: Final = Path("/opt/worker-sync-tests/docker")
PORTS: Final = ("EXPORTER_PORT", "FLOWER_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")
#: Seconds for all that starts, one thing after the other.
UP_S: Final = 600
SECONDS: Final = 180.0
PROJECT: Final = "worker-sync"
#: The service in whose container commands are run; no test kills it.
ANYWHERE: Final = "exporter"


@dataclass(frozen=True)
class Composed:
    """A project of Compose. `variables` stand in the place of a person's .env."""

    engine: Engine
    variables: Mapping[str, str]

    def compose(self, *arguments: str, seconds: float = SECONDS) -> str:
        """`docker compose ARGUMENTS`; what it said. It has to succeed."""
        return self.engine.must("compose", *arguments, seconds=seconds, more=self.variables)

    def up(self) -> None:
        # There is no stand-in for Grafana; tests/deploy/test_compose_file.py looks at what it would be given.
        options = ["--wait", "--wait-timeout", str(UP_S), "--scale", "grafana=0"]
        done = self.engine.run("compose", "up", *options, seconds=UP_S * 2, more=self.variables)
        assert done.code == 0, f"{done.err[-2000:]}\n{self.compose('ps', '--all')}\n{self.compose('logs')[-8000:]}"

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "30", seconds=SECONDS * 2)

    def exec(self, service: str, *command: str) -> str:
        return self.compose("exec", "-T", service, *command)

    def worker_sync(self, *arguments: str) -> str:
        """A command of the program, in a container that runs anyway."""
        return self.exec(ANYWHERE, "worker-sync", *arguments)

    def state(self, service: str) -> Any:
        """What the engine says of the service's container."""
        return self.engine.inspect(self.compose("ps", "--all", "--quiet", service))["State"]

    def secret(self, name: str) -> str:
        return self.exec(ANYWHERE, "python", "-c", f"print(open('/run/worker-sync/{name}').read())")

    def address(self, variable: str) -> str:
        return f"127.0.0.1:{self.variables[variable]}"

    def services(self) -> dict[str, str]:
        """How the containers are, by service."""
        found = [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]
        return {one["Service"]: one["Health"] or f"{one['State']} {one['ExitCode']}" for one in found}

    def leftovers(self) -> list[str]:
        """What the engine still has of the project."""
        label = f"label=com.docker.compose.project={PROJECT}"
        lists = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [name for what in lists for name in self.engine.must(*what, "--quiet", "--filter", label).split()]


@contextmanager
def composed(engine: Engine, standins: Mapping[str, str], **more: str) -> Iterator[Composed]:
    """A project that is gone when the block is left."""
    variables = {
        "DOCKER_CONFIG": str(CLIENT),
        # Never started, see `up`, but it has to be there.
        "GRAFANA_IMAGE": standins["PROMETHEUS_IMAGE"],
        **{port: str(free_port()) for port in PORTS},
        **standins,
        **more,
    }
    project = Composed(engine, variables)
    try:
        yield project
    finally:
        project.down()
