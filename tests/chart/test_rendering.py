"""What Helm makes of the chart is taken by Kubernetes, old and new, and refers to nothing that isn't there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    DEVELOPMENT,
    FOREIGN,
    HELMS,
    KUBERNETES,
    NAMESPACE,
    PRODUCTION,
    STAGING,
    TRIAL,
    Object,
    helm,
    hook,
    of,
    only,
    pods,
    problems,
    render,
)

FILES = (DEVELOPMENT, STAGING, PRODUCTION, TRIAL)
INGRESS = {"enabled": True, "host": "here.example.com", "tlsSecret": "tls", "className": "nginx"}

TOGGLES: dict[str, Mapping[str, Any]] = {
    "nothing but workers": {
        "capture": {"enabled": False},
        "beat": {"enabled": False},
        "exporter": {"enabled": False},
        "flower": {"enabled": False},
        "init": {"enabled": False},
        "tests": {"enabled": False},
        "serviceAccount": {"create": False},
    },
    "everything": {
        "image": {"tag": "1.2.3", "digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
        "env": [{"name": "TZ", "value": "UTC"}],
        "pod": {
            "annotations": {"a": "b"},
            "labels": {"c": "d"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "priorityClassName": "high",
            "podDisruptionBudget": True,
        },
        "capture": {"replicas": 2, "persistence": {"enabled": True, "storageClass": "shared"}},
        "worker": {
            "persistence": {"enabled": True},
            "autoscaling": {"enabled": True, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}},
        },
        "workerPools": {"sync": {"autoscaling": {"enabled": False}, "keda": {"enabled": True}}},
        "exporter": {"ingress": INGRESS},
        "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 443}]}]},
        "monitoring": {
            "labels": {"release": "prometheus"},
            "serviceMonitor": {"enabled": True},
            "rules": {"enabled": True},
            "dashboards": {"enabled": True},
        },
        "tests": {"verify": True},
    },
    "a secret that exists": {"secret": {"values": None, "existing": "mine"}},
    "no secret": {"secret": {"values": None}},
    "a class of ours": {"priorityClass": {"create": True, "value": -10}, "beat": {"priorityClassName": "high"}},
    "servers for a trial": {
        "trial": {"enabled": True, "storageClass": "fast"},
        "secret": {"values": {"TRIAL_PASSWORD": "secret"}},
        "networkPolicy": {"enabled": True},
    },
    "a trial without rows": {
        "trial": {"enabled": True, "seed": False},
        "secret": {"values": None, "existing": "mine"},
        "init": {"enabled": False},
    },
    "one disk for one pod": {"capture": {"persistence": {"enabled": True, "accessModes": ["ReadWriteOnce"]}}},
}


def of_the_release(objects: list[Object], kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in of(objects, kind) if not hook(one)}


def dangling(objects: list[Object]) -> list[str]:
    """References of pods to objects that are not there when the pod is: before the release, only other hooks are."""
    found = []
    hooks = {f"Job {one['metadata']['name']}" for one in of(objects, "Job") if hook(one)}
    for name, pod in pods(objects):
        early = name in hooks
        there = {
            kind: {one["metadata"]["name"] for one in of(objects, kind) if bool(hook(one)) is early}
            for kind in ("ConfigMap", "Secret", "ExternalSecret", "ServiceAccount", "PersistentVolumeClaim")
        }
        there["Secret"] |= there["ExternalSecret"] | {"mine", "worker-sync-staging"}
        there["ConfigMap"] |= {"worker-sync-ca"}  # the user's own, in the values for production
        there["ServiceAccount"] |= {"default"}
        wanted = [("ServiceAccount", pod.get("serviceAccountName", "default"))]
        owner = only(objects, *name.split())
        claimed = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        for volume in pod["volumes"]:
            wanted += [("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
            wanted += [("Secret", volume["secret"]["secretName"])] if "secret" in volume else []
            claim = volume.get("persistentVolumeClaim")
            wanted += [("PersistentVolumeClaim", claim["claimName"])] if claim else []
        for container in pod["containers"]:
            wanted += [("Secret", entry["secretRef"]["name"]) for entry in container.get("envFrom", [])]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]} | claimed, name
        found += [f"{name}: {kind} {wants}" for kind, wants in wanted if wants not in there[kind]]
    return found


def astray(objects: list[Object]) -> list[str]:
    """Objects that lack a label of the recommended set, or the namespace."""
    labels = {"name", "instance", "version", "part-of", "managed-by"}
    wanted = {f"app.kubernetes.io/{label}" for label in labels} | {"helm.sh/chart"}
    return [
        one["metadata"]["name"]
        for one in objects
        if not wanted <= set(one["metadata"]["labels"])
        or one["metadata"].get("namespace") != (None if one["kind"] == "PriorityClass" else NAMESPACE)
    ]


def selects(one: Object, labels: Mapping[str, str]) -> bool:
    spec = one["spec"]
    selector = spec["selector"] if one["kind"] == "Service" else spec["selector"]["matchLabels"]
    return set(selector.items()) <= set(labels.items())


def check(objects: list[Object]) -> None:
    assert [problem for kubernetes in KUBERNETES for problem in problems(objects, kubernetes)] == []
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    assert max(len(name) for _, name in names) <= 63
    # Its pods have a label of its name and 11 characters more.
    assert [name for kind, name in names if kind == "StatefulSet" and len(name) > 52] == []
    assert dangling(objects) == []
    assert astray(objects) == []
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "ServiceMonitor"):
        for one in of(objects, kind):
            chosen = [
                found
                for found in of(objects, "Deployment") + of(objects, "StatefulSet")
                if selects(one, found["spec"]["template"]["metadata"]["labels"])
            ]
            assert len(chosen) == 1, f"{kind} {one['metadata']['name']} selects {len(chosen)} sets of pods"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_values_file_makes_objects_that_kubernetes_takes(file: Path) -> None:
    new = render(file=file, program=HELMS[0], kubernetes=KUBERNETES[1])
    check(new)
    old = render(file=file, program=HELMS[1], kubernetes=KUBERNETES[0])
    assert sorted(map(repr, old)) == sorted(map(repr, new))


@pytest.mark.parametrize("toggles", TOGGLES.values(), ids=TOGGLES)
def test_every_switch_makes_objects_that_kubernetes_takes(toggles: Mapping[str, Any]) -> None:
    check(render(toggles))


def test_the_switches_try_every_kind_of_object() -> None:
    tried = {one["kind"] for toggles in TOGGLES.values() for one in render(toggles)}
    tried |= {one["kind"] for one in render(file=PRODUCTION, kubernetes=KUBERNETES[1])}
    assert tried >= {"HorizontalPodAutoscaler", "Ingress", "Job", "NetworkPolicy", "PersistentVolumeClaim", "Pod"}
    assert tried >= {"PriorityClass", "StatefulSet"}
    assert tried >= FOREIGN - {"PrometheusRule"}  # which depends on files that may not be there


@pytest.mark.parametrize(("file", "program"), [*((file, HELMS[0]) for file in FILES), (PRODUCTION, HELMS[1])])
def test_the_chart_is_clean(file: Path, program: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(file), program=program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_long_names_stay_apart() -> None:
    a, b = "a" * 40 + "_one", "a" * 40 + "_two"
    pipeline = {"target": "reporting", "tables": ["*"]}
    config = {
        "databases": {name: {"url": f"postgresql://h/{name}"} for name in (a, b)},
        "pipelines": {"one": {"source": a, **pipeline}, "two": {"source": b, **pipeline}},
    }
    trial = {"trial": {"enabled": True}, "secret": {"values": {"TRIAL_PASSWORD": "secret"}}}
    objects = render({"config": config, **trial}, release="r" * 50)
    check(objects)
    captures = [one for one in of(objects, "Deployment") if "-capture-" in one["metadata"]["name"]]
    args = sorted(one["spec"]["template"]["spec"]["containers"][0]["args"] for one in captures)
    assert args == [["capture", name, "--stay"] for name in (a, b, "shop")]
