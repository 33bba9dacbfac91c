"""A release lives on a real API server: installed, upgraded, rolled back, refused, and removed, by both Helms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.node import node
from tests.chart.release import Live, Release, made
from tests.chart.rendering import PRODUCTION, Object

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

#: One of everything, with a pool more than the chart has.
FIRST: dict[str, Any] = {
    "image": {"tag": "1.0.0"},
    "priorityClass": {"create": True, "value": 1000},
    "pod": {"podDisruptionBudget": True},
    "workerPools": {
        "sync": {"replicas": 1},
        "spare": {"queues": ["backup"], "autoscaling": {"enabled": True}},
    },
    "exporter": {"ingress": {"enabled": True, "host": "here.example.com", "className": "nginx"}},
    "networkPolicy": {"enabled": True},
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "rules": {"enabled": True},
        "dashboards": {"enabled": True},
    },
}
#: Another image and configuration, a larger pool, and what was optional is gone.
SECOND: dict[str, Any] = {
    "image": {"tag": "2.0.0"},
    "config": {"log": {"level": "info"}},
    "workerPools": {"sync": {"replicas": 4}},
    "networkPolicy": {"enabled": True},
}


def image(live: Live, name: str) -> str:
    return str(live["Deployment", name]["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_release_is_installed_upgraded_rolled_back_and_removed(release: Release) -> None:
    with node(release.cluster, release.namespace) as machine:
        release.helm("install", values=FIRST)
        first = release.live()
        # The hooks are gone, with the copies that were made for them.
        assert set(first) == made(FIRST)
        assert machine.ran == ["ws-worker-sync-init"]
        assert release.classes() == {f"{release.namespace}-ws-worker-sync-1000"}

        release.helm("upgrade", values=SECOND)
        second = release.live()
        assert set(second) == made(SECOND)
        assert {kind for kind, _ in set(first) - set(second)} >= {
            "HorizontalPodAutoscaler",
            "Ingress",
            "PrometheusRule",
        }
        assert not [name for _, name in second if "spare" in name]
        assert release.classes() == set()
        assert second["Deployment", "ws-worker-sync-worker-sync"]["spec"]["replicas"] == 4
        assert image(first, "ws-worker-sync-beat") == "worker-sync:1.0.0"
        assert image(second, "ws-worker-sync-beat") == "worker-sync:2.0.0"

        release.helm("rollback", "1")
        assert release.live() == first
        assert release.classes() == {f"{release.namespace}-ws-worker-sync-1000"}
        assert [state for _, state in release.revisions()] == ["superseded", "superseded", "deployed"]

        release.helm("uninstall")
        assert release.live() == {}
        assert release.classes() == set()
    # Before each revision but the one that was rolled back to: what `init` has migrated stays migrated.
    assert machine.ran == ["ws-worker-sync-init"] * 2


def test_wrong_values_change_nothing(release: Release) -> None:
    with node(release.cluster, release.namespace) as machine:
        release.helm("install", values=FIRST)
        before = release.live()
        for values, says in (
            ({"workerPools": {"sync": {"replicas": "many"}}}, "workerPools"),
            ({"workerPools": {"sync": None}}, "no pool of workerPools has the queue sync; add it to one"),
            ({"config": {"pipelines": None}}, "config has no pipelines and no audit; add one"),
        ):
            assert says in release.refused("upgrade", values=values)
            assert release.live() == before
        assert release.revisions() == [(1, "deployed")]
    assert machine.ran == ["ws-worker-sync-init"]


def test_an_upgrade_whose_init_fails_leaves_everything_as_it_was(release: Release) -> None:
    with node(release.cluster, release.namespace):
        release.helm("install", values=FIRST)
    before = release.live()
    with node(release.cluster, release.namespace, succeeds=False):
        assert "pre-upgrade hooks failed" in release.refused("upgrade", values=SECOND)
    after = release.live()
    # The Job stays for its log, with what it needs for it.
    extra = set(after) - set(before)
    assert ("Job", "ws-worker-sync-init") in extra
    assert {name for _, name in extra} == {"ws-worker-sync-init"}
    assert {key: one for key, one in after.items() if key in before} == before
    with node(release.cluster, release.namespace) as machine:
        release.helm("upgrade", values=SECOND)
    assert set(release.live()) == made(SECOND)
    assert machine.ran == ["ws-worker-sync-init"]


def test_the_tests_of_a_release_are_what_helm_runs(release: Release) -> None:
    with node(release.cluster, release.namespace) as machine:
        release.helm("install", values={})
        machine.ran.clear()
        release.helm("test")
        assert sorted(machine.ran) == [
            f"ws-worker-sync-test-{of}" for of in ("connection", "databases", "metrics", "sync")
        ]
    with node(release.cluster, release.namespace, succeeds=False):
        assert "failed" in release.refused("test")


def test_the_values_for_production_are_a_release(release: Release) -> None:
    # Without hooks: the operator whose Secret the Job needs is not here.
    options = ("--no-hooks", "--set", "image.tag=1.0.0")
    release.helm("install", *options, values={}, file=PRODUCTION)
    first = release.live()
    assert set(first) == made({}, PRODUCTION)
    release.helm("upgrade", *options, values={"worker": {"replicas": 5}}, file=PRODUCTION)
    assert release.live() != first
    release.helm("rollback", "1", "--no-hooks")
    assert release.live() == first


#: Two pools with disks.
DISKS: dict[str, Any] = {
    "workerPools": {
        name: {"queues": ["backup"], "persistence": {"enabled": True, "mountPath": "/var/lib/worker-sync/here"}}
        for name in ("one", "two")
    }
}


def test_the_disk_of_a_pool_that_is_gone_stays_and_is_found_again(release: Release) -> None:
    with node(release.cluster, release.namespace):
        release.helm("install", values=DISKS)
        first = release.live()
        release.helm("upgrade", values={"workerPools": {"one": DISKS["workerPools"]["one"]}})
        left = {(kind, name) for kind, name in release.live() if name == "ws-worker-sync-worker-two"}
        assert left == {("PersistentVolumeClaim", "ws-worker-sync-worker-two")}
        if release.program == "helm":
            release.helm("rollback", "1")
        else:
            # Helm 3 stumbles over what it kept; an upgrade with the former values takes it.
            assert "no PersistentVolumeClaim with the name" in release.refused("rollback", "1")
            release.helm("upgrade", values=DISKS)
        assert release.live() == first
        release.helm("uninstall")
        assert {kind for kind, _ in release.live()} == {"PersistentVolumeClaim"}
        release.helm("install", values=DISKS)
        assert release.live() == first


def test_another_value_is_another_priority_class(release: Release) -> None:
    with node(release.cluster, release.namespace):
        release.helm("install", values={"priorityClass": {"create": True, "value": 1000}})
        release.helm("upgrade", values={"priorityClass": {"create": True, "value": 2000}})
    name = f"{release.namespace}-ws-worker-sync-2000"
    assert release.classes() == {name}
    beat = release.live()["Deployment", "ws-worker-sync-beat"]
    assert beat["spec"]["template"]["spec"]["priorityClassName"] == name


def test_a_trial_is_upgraded_and_rolled_back(release: Release) -> None:
    trial: dict[str, Any] = {"trial": {"enabled": True}, "secret": {"values": {"TRIAL_PASSWORD": "secret"}}}
    with node(release.cluster, release.namespace) as machine:
        release.helm("install", values=trial)
        first = release.live()
        # The Jobs are no hooks: they run beside the servers that they wait for.
        assert set(first) == made(trial)
        release.helm("upgrade", values={**trial, "image": {"tag": "2.0.0"}})
        jobs = {name for kind, name in release.live() if kind == "Job"}
        assert jobs == {"ws-worker-sync-init-2", "ws-worker-sync-trial-seed-2"}
        release.helm("rollback", "1")
        assert set(release.live()) == set(first)
        release.helm("uninstall")
        assert release.live() == {}
    assert machine.ran.count("ws-worker-sync-init-2") == 1


#: What whoever installs needs in the namespace beside Kubernetes' own role `edit`: the kinds of the operators.
INSTALLER: Object = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "installer"},
    "rules": [
        {
            "apiGroups": ["monitoring.coreos.com"],
            "resources": ["servicemonitors", "prometheusrules"],
            "verbs": ["*"],
        }
    ],
}


def binding(kind: str, role: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role.replace(":", "-")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "installer"}],
    }


def test_the_rights_of_one_namespace_are_enough_to_install(release: Release) -> None:
    # Without a controller the role `edit` itself is empty: it is put together from these.
    parts = [binding("ClusterRole", f"system:aggregate-to-{role}") for role in ("edit", "view")]
    objects = [INSTALLER, binding("Role", "installer"), *parts]
    done = release.cluster.apply(objects, release.namespace)
    assert done.returncode == 0, done.stderr
    before = set(release.live())
    values = {key: value for key, value in FIRST.items() if key != "priorityClass"}
    with node(release.cluster, release.namespace):
        release.helm("install", "--kube-as-user", "installer", values=values)
        release.helm("upgrade", "--kube-as-user", "installer", values=SECOND)
        release.helm("rollback", "1", "--kube-as-user", "installer")
        assert set(release.live()) - before == made(values)
        release.helm("uninstall", "--kube-as-user", "installer")
    assert set(release.live()) == before
    assert "priorityclasses" in release.refused("install", "--kube-as-user", "installer", values=FIRST)
