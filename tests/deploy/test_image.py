"""The image: what is in it, and that its roles keep databases in step as a user without rights in a read-only root."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.deploy.engine import ROOT, Engine
from tests.fixtures.eventually import eventually
from tests.fixtures.program import simple_config

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1800)]

#: Bytes, unpacked. What would make it much larger is a decision.
LARGEST = 185_000_000
USER = "10001:10001"
ROWS = 2000


def test_the_image_has_what_its_roles_need_and_nothing_to_break_in_with(engine: Engine, image: str) -> None:
    found = engine.inspect(image)
    assert found["Size"] < LARGEST
    assert found["Config"]["User"] == USER
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "tested"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    for program in ("sh", "/bin/sh", "apt-get", "pip", "/opt/worker-sync/bin/pip"):
        assert engine.run("run", "--rm", "--entrypoint", program, image).code == 127, program
    assert engine.must("run", "--rm", image, "--version").startswith("worker-sync, version ")


def test_the_full_image_has_a_shell_and_the_programs_of_databases(engine: Engine, image: str) -> None:
    full = "worker-sync:full"
    engine.build(full, ROOT, "--target", "full")
    assert engine.inspect(full)["Config"]["User"] == USER
    assert engine.must("run", "--rm", full, "--version") == engine.must("run", "--rm", image, "--version")
    for program in ("pg_dump", "psql", "mariadb-dump", "mariadb", "mariadb-binlog"):
        engine.must("run", "--rm", "--entrypoint", program, full, "--version")
    assert engine.must("run", "--rm", "--entrypoint", "sh", full, "-c", "id -u") == USER.partition(":")[0]


def test_every_command_starts_in_a_read_only_root_without_network_and_capabilities(engine: Engine, image: str) -> None:
    for role in ("init", "capture", "worker", "beat", "exporter", "flower", "check", "status", "verify", "audit"):
        said = engine.must(
            "run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", image, role, "--help"
        )
        assert said.startswith("Usage:"), said


@pytest.fixture
def workplace(source_db: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path) -> Path:
    document = simple_config(source_db, target_db, control=control_db)
    document |= {"broker": redis_url, "state_dir": "/var/lib/worker-sync"}
    config = tmp_path / "worker-sync.yaml"
    config.write_text(yaml.safe_dump(document))
    config.chmod(0o644)
    return config


@contextmanager
def role(engine: Engine, image: str, config: Path, *arguments: str) -> Iterator[str]:
    """A container of one role; its id."""
    found = engine.must("run", "--detach", *options(config), image, *arguments)
    try:
        yield found
    finally:
        engine.run("rm", "--force", found)


def options(config: Path) -> list[str]:
    mounted = f"{config}:/etc/worker-sync/worker-sync.yaml:ro"
    confined = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    # The servers of the tests are at the loopback addresses of this machine.
    return ["--network", "host", "--tmpfs", "/tmp", "--volume", mounted, *confined]


def test_a_pipeline_of_containers_verifies_and_heals_when_one_is_killed(
    engine: Engine, image: str, workplace: Path, source_db: str
) -> None:
    once = ["run", "--rm", *options(workplace), image]
    with psycopg.connect(source_db, autocommit=True) as source:
        source.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        source.execute(f"INSERT INTO orders SELECT n, 'row ' || n FROM generate_series(1, {ROWS}) n")
        engine.must(*once, "init")
        with role(engine, image, workplace, "capture", "shop") as capture:
            with role(engine, image, workplace, "worker") as worker:
                engine.must(*once, "wait", "shop-to-reporting", "--timeout", "60")
                eventually(
                    lambda: health(engine, worker) == health(engine, capture) == "healthy", 60, "both are healthy"
                )
                source.execute("UPDATE orders SET note = 'again' WHERE id % 2 = 0")
                engine.must("kill", worker)
            source.execute(f"DELETE FROM orders WHERE id > {ROWS // 2}")
            with role(engine, image, workplace, "worker") as worker:
                engine.must(*once, "wait", "shop-to-reporting", "--timeout", "60")
                engine.must(*once, "verify", "shop-to-reporting")
                assert seconds_to_stop(engine, worker) < 10
            assert seconds_to_stop(engine, capture) < 10


def health(engine: Engine, container: str) -> str:
    return str(engine.inspect(container)["State"]["Health"]["Status"])


def seconds_to_stop(engine: Engine, container: str) -> float:
    """After SIGTERM; it has to end by itself."""
    begun = time.monotonic()
    engine.must("stop", "--time", "25", container)
    state = engine.inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), state
    return time.monotonic() - begun
