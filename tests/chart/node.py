"""Stands in for controllers and node, which an API server alone has not: Jobs and test pods end as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final

from tests.chart.cluster import Cluster
from tests.chart.rendering import Object

PAUSE_S: Final = 0.05
TIME: Final = "2026-01-01T00:00:00Z"
SUCCEEDED: Final = ("SuccessCriteriaMet", "Complete")
FAILED: Final = ("FailureTarget", "Failed")


@dataclass
class Node:
    """What has run."""

    cluster: Cluster
    namespace: str
    succeeds: bool
    ran: list[str] = field(default_factory=list)

    def turn(self) -> None:
        """Ends what has begun since the last one."""
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        for job in self.cluster.ask(jobs)["items"]:
            name = job["metadata"]["name"]
            if not job.get("status", {}).get("conditions"):
                self._run(name, job["spec"]["template"]["spec"], job["spec"]["template"]["metadata"]["labels"])
                self._set(f"{jobs}/{name}/status", self._of_job())
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.cluster.ask(pods)["items"]:
            name = pod["metadata"]["name"]
            if pod["status"]["phase"] == "Pending":
                self._find(pod["spec"])
                self.ran.append(name)
                self._set(f"{pods}/{name}/status", {"phase": "Succeeded" if self.succeeds else "Failed"})

    def _run(self, name: str, spec: Object, labels: Object) -> None:
        """Its pod would be taken, and would find what it mounts."""
        pod = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        self.cluster.ask(f"/api/v1/namespaces/{self.namespace}/pods?dryRun=All", pod, "POST")
        self._find(spec)
        self.ran.append(name)

    def _find(self, spec: Object) -> None:
        for volume in spec["volumes"]:
            if "configMap" in volume:
                self.cluster.ask(f"/api/v1/namespaces/{self.namespace}/configmaps/{volume['configMap']['name']}")
            if "secret" in volume:
                self.cluster.ask(f"/api/v1/namespaces/{self.namespace}/secrets/{volume['secret']['secretName']}")

    def _of_job(self) -> dict[str, Any]:
        conditions = SUCCEEDED if self.succeeds else FAILED
        status: dict[str, Any] = {
            "startTime": TIME,
            "uncountedTerminatedPods": {},
            "conditions": [
                {"type": condition, "status": "True", "lastTransitionTime": TIME} for condition in conditions
            ],
        }
        return {**status, "completionTime": TIME, "succeeded": 1} if self.succeeds else {**status, "failed": 1}

    def _set(self, path: str, status: dict[str, Any]) -> None:
        self.cluster.ask(path, {"status": status}, "PATCH")


@contextmanager
def node(cluster: Cluster, namespace: str, *, succeeds: bool = True) -> Iterator[Node]:
    """Jobs and pods of a namespace end, well or not, while the block runs."""
    found, over = Node(cluster, namespace, succeeds), Event()

    def work() -> None:
        while not over.wait(PAUSE_S):
            found.turn()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield found
        finally:
            over.set()
            working.result()
