"""Every container runs something that the program has, as nobody, and is given the time that it needs to end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tasks.handing_back import GRACE_S
from tests.chart.rendering import (
    PRODUCTION,
    Object,
    containers,
    hook,
    of,
    only,
    pods,
    render,
    template,
)
from tests.fixtures.program import ROOT
from worker_sync.cli.app import COMMANDS, cli
from worker_sync.core import alive
from worker_sync.core.settings import Settings, load
from worker_sync.ledger.keys import generate

HOME = Path("/var/lib/worker-sync")


@pytest.fixture(scope="module")
def production() -> list[Object]:
    return render(file=PRODUCTION, kubernetes="1.37.0")


def parse(arguments: list[str]) -> click.Context:
    """The command line as the program understands it. Raises what the program would say of a wrong one."""
    parent = cli.make_context("worker-sync", arguments[:0], resilient_parsing=True)
    command = cli.get_command(parent, arguments[0])
    assert command is not None, f"no command {arguments[0]}"
    return command.make_context(arguments[0], arguments[1:], parent=parent)


def args(objects: list[Object], role: str) -> list[str]:
    container = only(objects, "Deployment", role)["spec"]["template"]["spec"]["containers"][0]
    return list(container["args"])


def test_every_container_runs_a_command_that_there_is(production: list[Object]) -> None:
    said = [container["args"] for _, container in containers(production)]
    assert {arguments[0] for arguments in said} >= {"capture", "worker", "beat", "exporter", "flower", "init", "wait"}
    for arguments in said:
        assert arguments[0] in COMMANDS
        parse(arguments)


def test_every_probe_is_one_that_the_program_understands(production: list[Object]) -> None:
    found = 0
    for name, container in containers(production):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            if "exec" in probe:
                program, *arguments = probe["exec"]["command"]
                given = parse(arguments).params
                assert program == "worker-sync", name
                # One of another role or name would never be found.
                assert given["role"] == container["args"][0], name
                assert given["ready"] is (kind == "readinessProbe"), name
                assert given["name"] in {None, *container["args"]}, name
                found += 1
    assert found == 3 * len([role for role in of(production, "Deployment") if "flower" not in role["metadata"]["name"]])


def test_every_role_that_gives_signs_of_life_is_probed_for_them(production: list[Object]) -> None:
    for name, container in containers(production):
        if name.startswith("Deployment"):
            probe = container["livenessProbe"]
            assert ("exec" in probe) is (container["args"][0] in alive.ROLES), name
            assert {"startupProbe", "readinessProbe"} <= set(container), name


@pytest.mark.parametrize(
    ("prefix", "path"), [("", "/healthcheck"), ("/flower/", "/flower/healthcheck"), ("a/b", "/a/b/healthcheck")]
)
def test_flower_is_probed_under_its_prefix(prefix: str, path: str) -> None:
    flower = only(render({"config": {"flower": {"url_prefix": prefix}}}), "Deployment", "flower")
    container = flower["spec"]["template"]["spec"]["containers"][0]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[kind]["httpGet"]["path"] == path


def test_flower_keeps_what_it_has_seen_on_a_disk_that_one_pod_has_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render({"flower": {"persistence": {"enabled": True, "size": "2Gi"}}})
    claim = only(objects, "PersistentVolumeClaim", "flower")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    flower = only(objects, "Deployment", "flower")["spec"]
    assert flower["strategy"] == {"type": "Recreate"}
    pod = flower["template"]["spec"]
    disk = {"name": "state", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert disk in pod["volumes"]
    # Where a configuration that says nothing of it has the file.
    text = only(objects, "ConfigMap", "worker-sync")["data"]["worker-sync.yaml"]
    kept = with_secrets(text, tmp_path, monkeypatch).flower.db
    assert kept is not None
    [mounted] = [one["mountPath"] for one in pod["containers"][0]["volumeMounts"] if one["name"] == "state"]
    assert (HOME / kept.relative_to(tmp_path)).is_relative_to(mounted)


def test_a_worker_is_given_its_grace_and_15_seconds(production: list[Object]) -> None:
    pools = {"sync": {"grace": 45}, "audit": {}}
    for one in of(render({"workerPools": pools}, PRODUCTION, kubernetes="1.37.0"), "Deployment"):
        pod = one["spec"]["template"]["spec"]
        arguments = pod["containers"][0]["args"]
        if arguments[0] == "worker":
            grace = parse(arguments).params["grace"]
            assert grace == (45 if one["metadata"]["name"].endswith("worker-sync") else GRACE_S)
            assert pod["terminationGracePeriodSeconds"] == grace + 15
        else:
            assert pod["terminationGracePeriodSeconds"] == 30


def test_a_pool_may_differ_from_the_configurations(production: list[Object]) -> None:
    given = parse(args(production, "worker-sync")).params
    assert (given["queues"], given["pool"], given["concurrency"]) == ("sync", "prefork", 2)
    other = parse(args(production, "worker-audit")).params
    assert (other["queues"], other["pool"], other["concurrency"]) == ("audit", None, None)


def test_the_user_and_the_program_are_the_images(production: list[Object]) -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    contexts = [pod["securityContext"] for _, pod in pods(production)]
    users = {(context["runAsUser"], context["runAsGroup"]) for context in contexts}
    assert {(int(user), int(group)) for user, group in re.findall(r"^USER (\d+):(\d+)$", image, re.MULTILINE)} == users
    assert set(re.findall(r"^ENTRYPOINT (.*)$", image, re.MULTILINE)) == {'["worker-sync"]'}
    assert [name for name, container in containers(production) if "command" in container] == []


def test_nobody_runs_anything_with_rights(production: list[Object]) -> None:
    for name, pod in pods(production):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
    for name, container in containers(production):
        context = container["securityContext"]
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert context == wanted, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
    assert [one["kind"] for one in production if one["kind"].endswith(("Role", "RoleBinding"))] == []


def test_what_is_written_is_a_volume(production: list[Object]) -> None:
    for name, container in containers(production):
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert mounts[f"{HOME}/worker-sync.yaml"]["readOnly"], name
        for folder in (str(HOME), variables[alive.RUN_DIR], "/tmp"):
            assert not mounts[folder].get("readOnly"), f"{name}: {folder}"
        assert variables[alive.CONFIG] == f"{HOME}/worker-sync.yaml", name


def with_secrets(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The configuration as a container reads it."""
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, generate("ledger").reveal() if name == "LEDGER_KEY" else "c2VjcmV0" * 8)
    path = folder / "worker-sync.yaml"
    path.write_text(text)
    return load(path)


def test_the_configuration_is_one_that_the_program_takes(
    production: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        one["data"]["worker-sync.yaml"] for one in of(production, "ConfigMap") if "worker-sync.yaml" in one["data"]
    ]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    settings = with_secrets(texts[0], tmp_path, monkeypatch)
    given = yaml.safe_load(PRODUCTION.read_text())["config"]
    assert yaml.safe_load(texts[0]) == given
    captures = [one for one in of(production, "Deployment") if "-capture-" in one["metadata"]["name"]]
    assert sorted(one["spec"]["template"]["spec"]["containers"][0]["args"][1] for one in captures) == sorted(
        settings.sources
    )
    # What is spilled is on the disk, and so are the anchors.
    assert settings.spill is not None
    capture = only(production, "Deployment", "capture-shop")["spec"]["template"]["spec"]
    [disk] = [volume for volume in capture["volumes"] if "persistentVolumeClaim" in volume]
    assert {"name": disk["name"], "mountPath": str(HOME)} in capture["containers"][0]["volumeMounts"]
    assert Path(str(settings.spill.directory)).is_relative_to(tmp_path)
    audit = only(production, "Deployment", "worker-audit")["spec"]["template"]["spec"]["containers"][0]
    mounted = {mount["name"]: mount["mountPath"] for mount in audit["volumeMounts"]}
    assert [HOME / Path(str(anchor)).relative_to(tmp_path) for anchor in settings.ledger.anchors] == [
        Path(mounted["disk"])
    ]


TEXT = """\
# A comment, and ${file:...} and {{ braces }}, stay as they are.
control: "postgresql://ws:${file:secrets/CONTROL_PASSWORD}@control:5544/ws"
broker: amqps://ws:${BROKER_PASSWORD:-none}@[::1]/
databases:
  shop: {url: "mysql://ws:${P}@shop/shop"}
  reporting: {url: "mongodb+srv://${P}@reporting/reporting"}
pipelines:
  p: {source: shop, target: reporting, tables: ["*"]}
"""


def test_the_file_of_a_laptop_arrives_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "laptop.yaml"
    path.write_text(TEXT)
    values: dict[str, Any] = {"secret": {"existing": "mine"}, "networkPolicy": {"enabled": True}}
    done = template(values, None, "--set-file", f"config={path}")
    assert "warning" not in done.stderr
    objects = render(values, None, "--set-file", f"config={path}")
    text = only(objects, "ConfigMap", "worker-sync")["data"]["worker-sync.yaml"]
    assert text.rstrip("\n") == TEXT.rstrip("\n")
    # `secrets/` is beside it.
    [container] = only(objects, "Deployment", "capture-shop")["spec"]["template"]["spec"]["containers"]
    assert {"name": "secrets", "mountPath": f"{HOME}/secrets", "readOnly": True} in container["volumeMounts"]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/CONTROL_PASSWORD").write_text("se@cret")
    assert with_secrets(text, tmp_path, monkeypatch).control is not None
    ports = {
        port["port"]
        for rule in only(objects, "NetworkPolicy", "worker-sync")["spec"]["egress"]
        for port in rule.get("ports", [])
    }
    assert ports == {53, 5544, 5671, 3306, 27017}


def pod_annotations(values: Mapping[str, Any]) -> set[str]:
    deployments = of(render(values), "Deployment")
    return {str(one["spec"]["template"]["metadata"]["annotations"]) for one in deployments}


def test_another_configuration_or_secret_means_other_pods() -> None:
    first = pod_annotations({"beat": {"replicas": 1}})
    assert len(first) == 1
    assert pod_annotations({"beat": {"replicas": 2}}) == first
    assert pod_annotations({"config": {"log": {"level": "info"}}}).isdisjoint(first)
    assert pod_annotations({"secret": {"values": {"SHOP_PASSWORD": "other"}}}).isdisjoint(first)


def test_the_init_job_has_what_it_needs_before_anything_else_is_there(production: list[Object]) -> None:
    job = only(production, "Job", "init")
    hooks = [one for one in production if hook(one) == "pre-install,pre-upgrade" and one is not job]
    assert {one["kind"] for one in hooks} == {"ConfigMap", "ExternalSecret", "NetworkPolicy", "ServiceAccount"}

    def note(one: Object, name: str) -> str:
        return str(one["metadata"]["annotations"][f"helm.sh/{name}"])

    for one in hooks:
        assert int(note(one, "hook-weight")) < int(note(job, "hook-weight")) < 0
        assert note(one, "hook-delete-policy") == "before-hook-creation,hook-succeeded"


def test_no_secret_is_in_a_config_map_or_an_argument() -> None:
    objects = render({"secret": {"values": {"SHOP_PASSWORD": "Tr0ub4dor"}}})
    secrets = [one for one in objects if one["kind"] == "Secret"]
    assert len(secrets) == 2
    assert "Tr0ub4dor" not in str([one for one in objects if one["kind"] != "Secret"])


def test_the_pods_of_a_capture_are_found_by_the_labels_that_the_page_names() -> None:
    page = (ROOT / "docs/how-to/deploy-on-kubernetes.md").read_text(encoding="utf-8")
    [labels] = re.findall(r"kubectl logs -l (\S+)`", page)
    wanted = dict(label.split("=") for label in labels.split(","))
    found = [one for one in of(render(), "Deployment") if wanted.items() <= labels_of(one).items()]
    assert [one["metadata"]["name"] for one in found] == ["ws-worker-sync-capture-shop"]


def labels_of(one: Object) -> dict[str, str]:
    return dict(one["spec"]["template"]["metadata"]["labels"])
