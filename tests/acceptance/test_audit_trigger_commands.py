"""`worker-sync audit triggers` where the log may not be read: a DBA installs, a role without rights captures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import start, worker_sync, write_config
from tests.fixtures.servers import server_directory
from tests.integration.test_audit import changes
from worker_sync.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

CAPTURE = "capture_without_rights"


@pytest.fixture
def shop() -> Iterator[str]:
    """A database whose server streams no log to anybody: URL of a superuser."""
    with server_directory("pg") as directory:
        server = EmbeddedPostgres(directory, {"wal_level": "replica", "max_wal_senders": "0", "fsync": "off"})
        try:
            url = server.start()
            with psycopg.connect(url) as connection:
                connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
                connection.execute(f"CREATE ROLE {CAPTURE} LOGIN PASSWORD 'secret'")
            yield url
        finally:
            server.stop()


@pytest.fixture
def control(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def config(shop: str, control: str, tmp_path: Path) -> Path:
    return write_config(tmp_path / "worker-sync.yaml", document(as_capture(shop), control))


def as_capture(shop: str) -> str:
    return f"postgresql://{CAPTURE}:secret@{shop.partition('@')[2]}"


def document(shop: str, control: str) -> dict[str, Any]:
    return {
        "control": control,
        "state_dir": "state",
        "databases": {"shop": {"url": shop}},
        "audit": {"shop": {"tables": ["public.*"], "capture": "triggers"}},
        "capture": {"lease_s": 2},
        "exporter": {"port": 0},
        "flower": {"enabled": False},
    }


@contextlib.contextmanager
def writing(url: str) -> Iterator[list[int]]:
    """Somebody inserts rows, one a transaction; what was committed so far."""
    done: list[int] = []
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.wait(0.005):
                connection.execute("INSERT INTO orders VALUES (%s, 'x')", [len(done)])
                done.append(len(done))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.long
def test_a_dba_installs_and_a_capture_without_rights_that_is_killed_records_all_once(
    shop: str, control: str, config: Path
) -> None:
    refused = worker_sync("audit", "triggers", "install", "shop", config=config)
    assert refused.code != 0
    assert "--dry-run" in refused.err
    assert worker_sync("audit", "triggers", "list", "shop", config=config).code == 1
    assert worker_sync("check", config=config).code == 1

    printed = worker_sync("audit", "triggers", "install", "shop", "--dry-run", config=config)
    assert printed.code == 0
    with psycopg.connect(shop, autocommit=True) as connection:
        connection.execute(printed.out.encode())
    assert worker_sync("audit", "triggers", "install", "shop", "--dry-run", config=config).out == ""
    assert worker_sync("audit", "triggers", "list", "shop", "--json", config=config).json["tables"] == [
        {"table": "public.orders", "state": "enabled"}
    ]
    checked = worker_sync("check", "--json", config=config).json["checks"]
    assert [check for check in checked if check["result"] != "ok" and check["database"] == "shop"] == []

    assert worker_sync("init", config=config).code == 0
    arguments = ["--config", str(config)]
    worker = start([*arguments, "worker"], config.parent / "worker.log")
    try:
        with writing(shop) as done:
            for number in range(3):
                capture = start([*arguments, "capture", "shop"], config.parent / f"capture-{number}.log")
                until = len(changes(control, 0)) + 30
                eventually(lambda until=until: len(changes(control, 0)) >= until, 90, "it records")  # type: ignore[misc]
                capture.kill()
                capture.wait()
        capture = start([*arguments, "capture", "shop"], config.parent / "capture.log")
        try:
            assert worker_sync("wait", "audit.shop", "--timeout", "90", config=config).code == 0
        finally:
            capture.terminate()
            capture.wait(30)
    finally:
        worker.terminate()
        worker.wait(60)
    assert [entry["after"]["id"] for entry in changes(control, len(done))] == [str(number) for number in done]

    owner = write_config(config.with_name("owner.yaml"), document(shop, control))
    removed = worker_sync("audit", "triggers", "remove", "shop", config=owner)
    assert removed.code == 0, removed
    with psycopg.connect(shop) as connection:
        assert connection.execute("SELECT to_regnamespace('worker_sync_audit')").fetchone() == (None,)
        connection.execute("INSERT INTO orders VALUES (-1, 'nobody records this')")


def test_what_is_not_recorded_yet_is_kept_unless_it_is_discarded(shop: str, control: str, config: Path) -> None:
    owner = write_config(config.with_name("owner.yaml"), document(shop, control))
    installed = worker_sync("audit", "triggers", "install", "shop", "--json", config=owner)
    assert [step["what"] for step in installed.json["steps"]][1:] == ["record changes of public.orders"]
    assert worker_sync("init", config=owner).code == 0
    with psycopg.connect(shop) as connection:
        connection.execute("INSERT INTO orders VALUES (1, 'a'), (2, 'b')")
    kept = worker_sync("audit", "triggers", "remove", "shop", config=owner)
    assert (kept.code, "2 recorded changes" in kept.err, "worker-sync wait audit.shop" in kept.err) == (1, True, True)
    with psycopg.connect(shop) as connection:
        assert connection.execute("SELECT count(*) FROM worker_sync_audit.changes WHERE op = 'c'").fetchone() == (2,)
    assert worker_sync("audit", "triggers", "remove", "shop", "--discard", config=owner).code == 0
