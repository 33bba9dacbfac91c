"""A real API server takes what Helm makes of the chart: field by field, with nothing deprecated, as restricted pods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.cluster import Cluster
from tests.chart.rendering import FOREIGN, Object, of, pods, render
from tests.chart.test_rendering import FILES, TOGGLES

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

#: The server that is asked, which a chart may ask for its version.
NEWEST = "1.37.0"
#: What has to be there before a pod is taken.
EARLY = ("ServiceAccount", "PriorityClass")
#: The class of which TOGGLES speak.
USERS_CLASS: Object = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "high"},
    "value": 1,
}


def moved(objects: list[Object], namespace: str) -> list[Object]:
    """The objects in another namespace; those of the cluster have none."""
    return [
        {**one, "metadata": {**one["metadata"], "namespace": namespace}} if one["metadata"].get("namespace") else one
        for one in objects
    ]


def pods_of(objects: list[Object]) -> list[Object]:
    """The pods that controllers would make."""
    found: list[Object] = []
    for number, one in enumerate(objects):
        if one["kind"] in {"Deployment", "StatefulSet", "Job"}:
            template = one["spec"]["template"]
            metadata = {**template["metadata"], "name": f"pod-{number}"}
            claims = [claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])]
            disks = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
            spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *disks]}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return found


def check(cluster: Cluster, namespace: str, objects: list[Object]) -> None:
    """The server takes all of it, and warns of nothing."""
    made = moved(objects, namespace)
    for one in objects:
        assert one["metadata"].get("namespace") or one["kind"] == "PriorityClass", one["metadata"]["name"]
    if early := [one for kind in EARLY for one in of(made, kind)]:
        done = cluster.apply(early, namespace)
        assert done.returncode == 0, done.stderr
    whole = made + pods_of(made)
    done = cluster.apply(whole, namespace, "--dry-run=server")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(whole)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_server_takes_every_values_file(cluster: Cluster, namespace: str, file: Path) -> None:
    check(cluster, namespace, render(file=file, kubernetes=NEWEST))


@pytest.mark.parametrize("toggles", TOGGLES.values(), ids=TOGGLES)
def test_the_server_takes_what_every_switch_makes(cluster: Cluster, namespace: str, toggles: Mapping[str, Any]) -> None:
    objects = render(toggles, kubernetes=NEWEST)
    cluster.apply([USERS_CLASS], namespace)
    check(cluster, namespace, objects)


def test_the_server_is_asked_about_every_kind() -> None:
    asked = {one["kind"] for toggles in TOGGLES.values() for one in render(toggles, kubernetes=NEWEST)}
    asked |= {one["kind"] for file in FILES for one in render(file=file, kubernetes=NEWEST)}
    assert asked >= FOREIGN | {"NetworkPolicy", "PriorityClass", "StatefulSet", "PodDisruptionBudget", "Ingress", "Pod"}


def test_the_server_refuses_what_it_should(cluster: Cluster, namespace: str) -> None:
    """Otherwise the tests above would show nothing."""
    objects = moved(render(), namespace)
    cluster.apply(of(objects, "ServiceAccount"), namespace)
    [name, pod] = next(iter(pods(of(objects, "Deployment"))))
    wrong: dict[str, tuple[Object, str]] = {
        "unknown field": ({**pod, "graceSeconds": 1}, "field not declared in schema"),
        "more rights": ({**pod, "hostNetwork": True}, "violates PodSecurity"),
        "no such account": ({**pod, "serviceAccountName": "nobody"}, "serviceaccount"),
        "no such class": ({**pod, "priorityClassName": "urgent"}, "no PriorityClass with name urgent"),
    }
    for reason, (spec, says) in wrong.items():
        one: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wrong"}, "spec": spec}
        done = cluster.apply([one], namespace, "--dry-run=server")
        assert done.returncode != 0, f"{reason}: {name}"
        assert says in done.stderr, reason


def test_the_accounts_of_a_release_may_do_no_more_than_any_account(cluster: Cluster, namespace: str) -> None:
    objects = moved(render(), namespace)
    cluster.apply(of(objects, "ServiceAccount"), namespace)

    def may(account: str, *question: str) -> str:
        identity = [f"--as=system:serviceaccount:{namespace}:{account}", "--as-group=system:serviceaccounts"]
        identity += [f"--as-group=system:serviceaccounts:{namespace}", "--as-group=system:authenticated"]
        return cluster.run("kubectl", "auth", "can-i", *question, "--namespace", namespace, *identity).stdout.strip()

    anybody = may("default", "--list")
    assert "selfsubjectaccessreviews" in anybody
    for one in of(objects, "ServiceAccount"):
        account = one["metadata"]["name"]
        assert may(account, "--list") == anybody
        for verb, kind in (("get", "secrets"), ("list", "pods"), ("create", "pods"), ("get", "configmaps")):
            assert may(account, verb, kind) == "no", (account, verb, kind)
