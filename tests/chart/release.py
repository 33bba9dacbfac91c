"""A release of the chart on the API server, and what there has to be of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chart.cluster import Cluster, plain
from tests.chart.rendering import CHART, DEVELOPMENT, Object, hook, render

#: By kind and name.
Live = dict[tuple[str, str], Object]


@dataclass(frozen=True)
class Release:
    """The release `ws` in a namespace of its own."""

    cluster: Cluster
    namespace: str
    program: str

    def helm(self, *arguments: str, values: Mapping[str, Any] | None = None, file: Path = DEVELOPMENT) -> str:
        """What Helm says; it has to succeed. With values it is about the chart, with those over those of the file."""
        return self.cluster.must(self.program, *self._full(arguments, values, file), stdin=json.dumps(values))

    def refused(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        done = self.cluster.run(self.program, *self._full(arguments, values, DEVELOPMENT), stdin=json.dumps(values))
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _full(self, arguments: tuple[str, ...], values: Mapping[str, Any] | None, file: Path) -> list[str]:
        given = [] if values is None else [str(CHART), "--values", str(file), "--values", "-"]
        return [arguments[0], "ws", *given, *arguments[1:], "--namespace", self.namespace]

    def live(self) -> Live:
        return {key: plain(one) for key, one in self.cluster.objects(self.namespace).items()}

    def revisions(self) -> list[tuple[int, str]]:
        """Each with its state."""
        found = json.loads(self.helm("history", "--output", "json"))
        return [(one["revision"], one["status"]) for one in found]

    def classes(self) -> set[str]:
        """Priority classes of this release, which are the cluster's."""
        found = self.cluster.ask("/apis/scheduling.k8s.io/v1/priorityclasses")["items"]
        names = {str(one["metadata"]["name"]) for one in found}
        return {name for name in names if name.startswith(f"{self.namespace}-")}


def made(values: Mapping[str, Any], file: Path = DEVELOPMENT) -> set[tuple[str, str]]:
    """What there has to be of a namespace, by kind and name."""
    objects = [one for one in render(values, file, kubernetes="1.37.0") if not hook(one)]
    return {(one["kind"], one["metadata"]["name"]) for one in objects if one["metadata"].get("namespace")}
