"""What the chart would have a node run, as processes of this machine: directories for volumes, no cluster's network."""

from __future__ import annotations

import signal
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chart.rendering import NAMESPACE, Object, of, pods
from tests.fixtures.eventually import eventually
from tests.fixtures.program import COMMAND, environment

#: Seconds for what takes a moment on a machine with nothing else to do.
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Pod:
    """One container, with a directory in place of its volumes, and this machine in place of the cluster's network."""

    directory: Path
    container: Object
    grace_s: int
    variables: dict[str, str]

    def command(self, arguments: list[str]) -> list[str]:
        exporter = f"ws-worker-sync-exporter.{NAMESPACE}.svc"
        return [
            *COMMAND,
            *(argument.replace(exporter, "127.0.0.1").replace("0.0.0.0", "127.0.0.1") for argument in arguments),
        ]

    def start(self) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            command = self.command(self.container["args"])
            return subprocess.Popen(command, env=environment(self.variables), stdout=log, stderr=log)

    def run(self) -> str:
        """To its end; what it said, empty when it ended well."""
        code = self.start().wait(PATIENCE_S)
        return f"{self.container['args']}: {code}: {self.log}" if code else ""

    def probe(self, kind: str) -> bool:
        arguments = self.container[kind]["exec"]["command"][1:]
        done = subprocess.run(self.command(arguments), env=environment(self.variables), check=False)
        return done.returncode == 0

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()


def pods_of(objects: list[Object], kind: str, directory: Path) -> Iterator[Pod]:
    """The containers of the pods of a kind, with the files and the variables that they are given."""
    for number, (_, pod) in enumerate(pods(of(objects, kind))):
        for container in pod["containers"]:
            where = directory / f"{kind}-{number}-{container['name']}"
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            for mount in container["volumeMounts"]:
                fill(where / mount["mountPath"].lstrip("/"), mount, volumes[mount["name"]], objects)
            for source in container["envFrom"]:
                variables |= secret(objects, source["secretRef"]["name"])
            ours = {name: str(where / value.lstrip("/")) for name, value in variables.items() if value.startswith("/")}
            yield Pod(where, container, pod["terminationGracePeriodSeconds"], {**variables, **ours})


def fill(path: Path, mount: Object, volume: Object, objects: list[Object]) -> None:
    if "configMap" in volume:
        path.parent.mkdir(parents=True, exist_ok=True)
        [config] = [one for one in of(objects, "ConfigMap") if one["metadata"]["name"] == volume["configMap"]["name"]]
        path.write_text(config["data"][mount["subPath"]])
        return
    path.mkdir(parents=True, exist_ok=True)
    if "secret" in volume:
        for key, value in secret(objects, volume["secret"]["secretName"]).items():
            (path / key).write_text(value)


def secret(objects: list[Object], name: str) -> dict[str, str]:
    [found] = [one for one in of(objects, "Secret") if one["metadata"]["name"] == name]
    return {key: b64decode(value).decode() for key, value in found["data"].items()}


@contextmanager
def up(roles: list[Pod]) -> Iterator[None]:
    """All roles run, ready and alive, while the block does; then they end by themselves when they are asked to."""
    running = [(role, role.start()) for role in roles]
    try:
        for role in roles:
            eventually(partial(role.probe, "readinessProbe"), PATIENCE_S, str(role.container["args"]))
            assert role.probe("livenessProbe"), role.log
        yield
        assert [role.log for role, process in running if process.poll() is not None] == []
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(role.grace_s) for role, process in running] == [0] * len(running)
    finally:
        for _, process in running:
            process.kill()
            process.wait()
