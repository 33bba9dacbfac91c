"""The command line as people and scripts meet it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import COMMAND, environment, simple_config, start, worker_sync, write_config
from worker_sync.cli.app import COMMANDS

TABLES = """
    CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL, amount numeric(8, 2));
    INSERT INTO orders SELECT i, 'item ' || i, i / 10.0 FROM generate_series(1, 200) i;
"""


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture
def config(tmp_path: Path, source_db: str, target_db: str, control_db: str, redis_url: str) -> Path:
    run(source_db, TABLES)
    document = simple_config(source_db, target_db, control=control_db, broker=redis_url)
    return write_config(tmp_path / "worker-sync.yaml", document)


@contextlib.contextmanager
def background(config: Path, tmp_path: Path, *roles: str) -> Iterator[None]:
    """Roles that run while the block does."""
    running = []
    for role in roles:
        running.append(start(["-c", str(config), *role.split()], tmp_path / f"{role.split()[0]}.log"))
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)


# -- help, completion, version


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    done = worker_sync(command, "--help")
    assert done.code == 0
    assert "Usage: worker-sync" in done.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = worker_sync("completion", shell)
    assert done.code == 0
    assert "_WORKER_SYNC_COMPLETE" in done.out


def test_a_shell_completes_commands_and_pipelines(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", simple_config("postgresql://h/a", "postgresql://h/b"))

    def complete(words: str, at: int) -> str:
        more = {"_WORKER_SYNC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return worker_sync(more={**more, "WORKER_SYNC_CONFIG": str(config)}).out

    assert "plain,verify" in complete("worker-sync ver", 1)
    assert "plain,shop-to-reporting" in complete("worker-sync wait sh", 2)


def test_the_version_is_printed() -> None:
    assert worker_sync("--version").out.startswith("worker-sync, version ")


# -- errors: one message, no traceback, the right exit code


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"pipelins": {}}, "pipelins"),
    "a database that is not there": (
        {"pipelines": {"p": {"source": "shopp", "target": "reporting", "tables": ["public.*"]}}},
        "pipelines.p.source",
    ),
    "a bad URL": ({"databases": {"shop": {"url": "postgresql:/h"}, "reporting": {"url": "x"}}}, "databases.shop.url"),
    "an engine that is not known": (
        {"databases": {"shop": {"url": "oracle://h/shop"}, "reporting": {"url": "postgresql://h/b"}}},
        "oracle",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_wrong_configuration_is_explained_with_its_path(case: str, tmp_path: Path) -> None:
    change, named = BAD_CONFIGS[case]
    config = write_config(tmp_path / "c.yaml", {**simple_config("postgresql://h/a", "postgresql://h/b"), **change})
    done = worker_sync("check", config=config)
    assert done.code == 2, done
    assert named in done.err
    assert "Traceback" not in done.err + done.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["stauts"], 2, "did you mean 'status'"),
        (["wait"], 2, "PIPELINE"),
        (["status"], 2, "WORKER_SYNC_CONFIG"),
        (["status", "-c", "no-such-file.yaml"], 2, "no-such-file.yaml"),
        (["demo", "--rows", "0"], 2, "--rows"),
        (["completion", "powershell"], 2, "powershell"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], code: int, said: str) -> None:
    done = worker_sync(*arguments)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err


def test_an_unreachable_control_store_exits_with_3_and_hides_the_password(tmp_path: Path) -> None:
    document = simple_config("postgresql://h/a", "postgresql://h/b", broker="redis://127.0.0.1:1/0")
    document["control"] = "postgresql://ws:hush-hush@127.0.0.1:1/none"
    done = worker_sync("status", config=write_config(tmp_path / "c.yaml", document))
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert "hush-hush" not in done.err
    assert "127.0.0.1" in done.err


def test_debug_shows_the_traceback_without_passwords(tmp_path: Path) -> None:
    document = simple_config("postgresql://h/a", "postgresql://h/b", broker="redis://127.0.0.1:1/0")
    document["control"] = "postgresql://ws:hush-hush@127.0.0.1:1/none"
    done = worker_sync("status", "--debug", config=write_config(tmp_path / "c.yaml", document))
    assert "Traceback" in done.err
    assert "hush-hush" not in done.err


def test_check_tells_could_not_run_from_failed(tmp_path: Path) -> None:
    document = simple_config("postgresql://u:hush-hush@127.0.0.1:1/a", "postgresql://127.0.0.1:1/b")
    done = worker_sync("check", "--json", config=write_config(tmp_path / "c.yaml", document))
    assert done.code == 3
    results = {check["database"]: check["result"] for check in done.json["checks"]}
    assert results == {"control": "ok", "shop": "unknown", "reporting": "unknown"}
    assert "hush-hush" not in done.out


def test_validate_lists_every_problem_as_json(tmp_path: Path) -> None:
    document = {**simple_config("postgresql://h/a", "x"), "shards": 2}
    done = worker_sync("config", "validate", "--json", config=write_config(tmp_path / "c.yaml", document))
    assert done.code == 2
    assert {problem["path"] for problem in done.json["problems"]} == {"databases.reporting.url", "shards"}


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{' '.join(COMMAND)} config schema | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


# -- on real servers


def test_check_and_init_are_repeatable(config: Path, target_db: str) -> None:
    checked = worker_sync("check", "--json", config=config)
    assert checked.code == 0, checked
    assert run(
        target_db, "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )[0] == (0,)

    first = worker_sync("init", "--json", config=config)
    second = worker_sync("init", "--json", config=config)

    assert first.code == second.code == 0
    assert "reporting: table public.orders" in first.json["created"]
    assert "shop: stream" in first.json["created"]
    assert second.json["created"] == []


def test_init_creates_nothing_when_a_check_fails(config: Path, source_db: str, target_db: str, control_db: str) -> None:
    run(source_db, "CREATE TABLE nameless (a int); ALTER TABLE nameless REPLICA IDENTITY NOTHING")
    done = worker_sync("init", config=config)
    assert done.code == 1
    assert "nameless" in done.out
    assert "Nothing was created" in done.out
    assert run(control_db, "SELECT to_regclass('worker_sync_control.migrations')") == [(None,)]
    assert run(target_db, "SELECT to_regclass('public.orders')") == [(None,)]
    assert run(source_db, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [(0,)]


def test_status_before_init_says_what_to_do(config: Path) -> None:
    done = worker_sync("status", config=config)
    assert done.code == 2
    assert "worker-sync init" in done.err


ROLES = ["capture shop", "worker", "beat", "exporter"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_not_begin_on_a_control_store_that_is_not_set_up(config: Path, role: str) -> None:
    done = worker_sync(*role.split(), config=config)
    assert done.code == 2
    assert "The control store is not set up: run `worker-sync init`" in done.err


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_not_begin_on_an_older_control_store_than_it_needs(
    config: Path, control_db: str, role: str
) -> None:
    worker_sync("init", config=config)
    newest = run(control_db, "SELECT max(number) FROM worker_sync_control.migrations")[0][0]
    run(control_db, f"DELETE FROM worker_sync_control.migrations WHERE number = {newest}")
    done = worker_sync(*role.split(), config=config)
    assert done.code == 2
    assert f"it is at version {newest - 1}, this program needs {newest}; run `worker-sync init`" in done.err


@pytest.mark.parametrize("role", ROLES)
def test_a_role_goes_on_with_a_control_store_of_a_newer_program(
    config: Path, tmp_path: Path, control_db: str, role: str
) -> None:
    worker_sync("init", config=config)
    run(control_db, "INSERT INTO worker_sync_control.migrations (number, name) VALUES (9999, 'later')")
    with background(config, tmp_path, role):
        is_ready = lambda: worker_sync("probe", role.split()[0], "--ready", config=config).code == 0
        eventually(is_ready, 30, f"the {role} is ready")


def test_wait_gives_up_in_time(config: Path) -> None:
    assert worker_sync("init", config=config).code == 0
    done = worker_sync("wait", "shop-to-reporting", "--timeout", "0.3", config=config)
    assert done.code == 1
    assert "Not applied in time" in done.err


def test_an_unknown_pipeline_is_named_with_the_known_ones(config: Path) -> None:
    done = worker_sync("wait", "shop-to-nowhere", config=config)
    assert done.code == 2
    assert "shop-to-reporting" in done.err


def test_pause_resume_and_a_halt_show_in_status(config: Path, control_db: str) -> None:
    worker_sync("init", config=config)
    assert worker_sync("pause", "shop-to-reporting", "--json", config=config).json["state"] == "paused"
    assert worker_sync("status", "--json", config=config).json["pipelines"][0]["state"] == "paused"
    assert worker_sync("resume", "shop-to-reporting", config=config).code == 0

    run(
        control_db,
        "UPDATE worker_sync_control.states SET status = 'halted', reason = 'slot-missing', detail = 'it is gone',"
        " recovery = 'worker-sync resync shop-to-reporting'",
    )
    halted = worker_sync("status", config=config)
    assert halted.code == 1
    assert "slot-missing" in halted.out
    assert "worker-sync resync shop-to-reporting" in halted.out
    waited = worker_sync("wait", "shop-to-reporting", config=config)
    assert waited.code == 1
    assert "slot-missing" in waited.err


def test_changes_arrive_and_verify_agrees(config: Path, tmp_path: Path, source_db: str, target_db: str) -> None:
    assert worker_sync("init", config=config).code == 0
    with background(config, tmp_path, "capture shop", "worker"):
        run(source_db, "UPDATE orders SET amount = 7 WHERE id = 7; DELETE FROM orders WHERE id = 8")
        waited = worker_sync("wait", "shop-to-reporting", "--json", config=config)
        assert waited.code == 0, waited
        assert run(target_db, "SELECT count(*), max(amount) FILTER (WHERE id = 7) FROM orders")[0][0] == 199

        verified = worker_sync("verify", "shop-to-reporting", "--json", config=config)
        assert (verified.code, verified.json["ok"]) == (0, True)

        run(target_db, "UPDATE orders SET item = 'wrong' WHERE id = 9")
        differs = worker_sync("verify", "shop-to-reporting", config=config)
        assert differs.code == 1
        assert "(9) different: item" in differs.out
        assert "wrong" not in differs.out

        status = worker_sync("status", "--json", config=config).json
        assert status["sources"][0]["capture"] == "running"
        assert status["pipelines"][0]["changes"] >= 199

        resync = worker_sync("resync", "shop-to-reporting", "--dry-run", "--json", config=config)
        assert [table["table"] for table in resync.json["tables"]] == ["public.orders"]
        assert worker_sync("resync", "shop-to-reporting", config=config).code == 0
        eventually(lambda: run(target_db, "SELECT item FROM orders WHERE id = 9") == [("item 9",)], seconds=60)


def test_a_capture_that_stays_goes_on_after_the_recovery_command(
    config: Path, tmp_path: Path, source_db: str, target_db: str
) -> None:
    assert worker_sync("init", config=config).code == 0
    with background(config, tmp_path, "worker"), start([*STAYING, str(config)], tmp_path / "capture.log") as capture:
        try:
            assert worker_sync("wait", "shop-to-reporting", config=config).code == 0
            eventually(lambda: _slot_is_dropped(source_db), 30, "the slot is dropped")
            run(source_db, "DELETE FROM orders WHERE id = 8")
            eventually(lambda: _reason(config) == "slot-missing", 60, "the source stands in its named state")
            assert worker_sync("probe", "capture", "--ready", config=config).code == 0

            assert worker_sync("resync", "shop-to-reporting", config=config).code == 0
            eventually(lambda: run(target_db, "SELECT count(*) FROM orders") == [(199,)], 60, "the rows are right")
            assert worker_sync("verify", "shop-to-reporting", config=config).code == 0

            capture.send_signal(signal.SIGTERM)
            assert capture.wait(20) == 0
        finally:
            capture.kill()


STAYING = ["capture", "shop", "--stay", "--config"]


def _slot_is_dropped(source: str) -> bool:
    """Its reader begins again, so the slot is free for a moment only."""
    slots = "FROM pg_replication_slots WHERE database = current_database()"
    run(source, f"SELECT pg_terminate_backend(active_pid) {slots} AND active")
    with contextlib.suppress(psycopg.errors.ObjectInUse):
        run(source, f"SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active")
    return run(source, f"SELECT {slots}") == []


def _reason(config: Path) -> object:
    return worker_sync("status", "--json", config=config).json["pipelines"][0]["reason"]


def test_snapshot_of_a_table_that_is_not_carried_is_refused(config: Path) -> None:
    worker_sync("init", config=config)
    done = worker_sync("snapshot", "shop-to-reporting", "public.order", config=config)
    assert done.code == 2
    assert "did you mean 'public.orders'" in done.err


def test_ctrl_c_ends_a_wait_with_130(config: Path, tmp_path: Path) -> None:
    worker_sync("init", config=config)
    log = tmp_path / "wait.log"
    with start(["-c", str(config), "wait", "shop-to-reporting", "--timeout", "100"], log) as process:
        try:
            connections = psutil.Process(process.pid).net_connections
            eventually(lambda: len(connections("tcp")) >= 2, what="the command is connected to its servers")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()
