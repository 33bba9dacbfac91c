"""Kubernetes' own API server on this machine, with etcd, and without anything that runs what it is told to run."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.chart.rendering import FOREIGN, Object
from tests.fixtures.certificates import Certificates, certificates
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import free_port, server_directory
from worker_sync.embedded.server import write_private

#: What scripts/test-apiserver makes.
HOME: Final = Path("/opt/worker-sync-tests/kubernetes")
TOKEN: Final = "the-administrators"
START_S: Final = 120.0
END_S: Final = 30.0
#: For one call of a program, or one question.
SECONDS: Final = 120.0

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Cluster:
    """A cluster as its administrator sees it."""

    url: str
    authority: Path
    kubeconfig: Path
    numbers: Iterator[int] = field(default_factory=count)

    def run(self, program: str, *arguments: str, stdin: str = "") -> Done:
        """kubectl or a Helm, however it ends."""
        command = [str(Path(sys.executable).parent / program), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False)

    def must(self, program: str, *arguments: str, stdin: str = "") -> str:
        """The same; what it said. It has to succeed."""
        done = self.run(program, *arguments, stdin=stdin)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, path: str, body: Object | None = None, method: str = "GET") -> Any:
        """An answer of the API; a body is merged into what is there, unless the method says otherwise."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            headers["Content-Type"] = "application/json" if method == "POST" else "application/merge-patch+json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=self._tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                raise AssertionError(f"{method} {path}: {refused.read().decode()}") from None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def namespace(self, standard: str = "restricted") -> str:
        """A new namespace that takes only pods of a standard, and the account that a controller would put into it."""
        name = f"test-{next(self.numbers)}"
        modes = {f"pod-security.kubernetes.io/{mode}": standard for mode in ("enforce", "warn")}
        self.ask("/api/v1/namespaces", {"metadata": {"name": name, "labels": modes}}, "POST")
        self.ask(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}}, "POST")
        return name

    def apply(self, objects: Sequence[Object], namespace: str, *options: str) -> Done:
        """`kubectl apply` by the server, which refuses fields that it doesn't know."""
        arguments = ["apply", "--server-side", "--validate=strict", "--namespace", namespace, *options, "-f", "-"]
        return self.run("kubectl", *arguments, stdin=yaml.safe_dump_all(objects))

    def objects(self, namespace: str) -> dict[tuple[str, str], Object]:
        """Everything in a namespace by kind and name, but for Helm's records and the account that each one has."""
        found: dict[tuple[str, str], Object] = {}
        for path, kind in self._kinds:
            for one in self.ask(path.format(namespace))["items"]:
                name = one["metadata"]["name"]
                if one.get("type") != "helm.sh/release.v1" and (kind, name) != ("ServiceAccount", "default"):
                    found[kind, name] = {"kind": kind, **one}
        return found

    @cached_property
    def _kinds(self) -> list[tuple[str, str]]:
        """The place of each kind that a namespace may have, and its name."""
        places = ["/api/v1"]
        for group in self.ask("/apis")["groups"]:
            places.append(f"/apis/{group['preferredVersion']['groupVersion']}")
        return [
            (f"{place}/namespaces/{{}}/{kind['name']}", kind["kind"])
            for place in places
            for kind in self.ask(place)["resources"]
            if kind["namespaced"] and "list" in kind["verbs"] and kind["kind"] != "Event"
        ]


def plain(one: Object) -> Object:
    """An object without what the server alone writes, which differs between two that mean the same."""
    written = {"resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"}
    metadata = {key: value for key, value in one["metadata"].items() if key not in written}
    rest = {key: value for key, value in one.items() if key not in {"metadata", "status"}}
    if one["kind"] == "Service":
        addresses = {"clusterIP", "clusterIPs"}
        rest["spec"] = {key: value for key, value in one["spec"].items() if key not in addresses}
    return {**rest, "metadata": metadata}


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that is gone when the block is left, with the kinds of the operators that the chart has objects of."""
    if not (HOME / "kube-apiserver").exists():
        pytest.fail("no API server: scripts/test-apiserver builds it, and `make test-deploy` runs that", pytrace=False)
    with server_directory("kubernetes") as directory, ExitStack() as stack:
        (directory / "data").mkdir()
        made = certificates(directory)
        etcd = f"http://127.0.0.1:{free_port()}"
        stack.enter_context(_running(directory, "etcd", _etcd_options(directory, etcd)))
        port = free_port()
        found = Cluster(f"https://127.0.0.1:{port}", made.authority, directory / "kubeconfig")
        write_private(found.kubeconfig, yaml.safe_dump(_kubeconfig(found)).encode())
        options = _server_options(directory, made, etcd, port)
        server = stack.enter_context(_running(directory, "kube-apiserver", options))
        eventually(lambda: _ready(found) or server.poll() is not None, START_S, "the API server is ready")
        assert server.poll() is None, (directory / "kube-apiserver.log").read_text()[-4000:]
        found.must("kubectl", "apply", "--server-side", "-f", str(HOME / "crds"))
        found.must("kubectl", "wait", "--for=condition=Established", "--all", "crd", f"--timeout={START_S:g}s")
        found.must("kubectl", "get", ",".join(sorted(FOREIGN)))  # waits until they can be stored too
        yield found


@contextmanager
def _running(directory: Path, program: str, options: Mapping[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(HOME / program), *(f"--{name}={value}" for name, value in options.items())]
    with (directory / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory / "data", stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        finally:
            process.kill()
            process.wait()


def _etcd_options(directory: Path, url: str) -> Mapping[str, object]:
    peers = f"http://127.0.0.1:{free_port()}"
    return {
        "data-dir": directory / "data/etcd",
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }


def _server_options(directory: Path, made: Certificates, etcd: str, port: str) -> Mapping[str, object]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    accounts, tokens = directory / "accounts.key", directory / "tokens.csv"
    write_private(accounts, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(tokens, f"{TOKEN},admin,admin,system:masters\n".encode())
    return {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "tls-cert-file": made.certificate,
        "tls-private-key-file": made.key,
        "token-auth-file": tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": accounts,
        "service-account-signing-key-file": accounts,
        "service-cluster-ip-range": "10.0.0.0/16",
    }


def _kubeconfig(found: Cluster) -> Mapping[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": found.url, "certificate-authority": str(found.authority)}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def _ready(found: Cluster) -> bool:
    return found.run("kubectl", "get", "--raw", "/readyz").stdout == "ok"
