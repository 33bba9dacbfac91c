"""`worker-sync audit evidence` as people, scripts and auditors meet it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import Ended, simple_config, worker_sync, write_config
from tests.integration.ledger_tampering import Trail
from tests.unit.ledger.independent import run_independent
from worker_sync.store import ControlStore
from worker_sync.store.schedule import RunStatus

pytestmark = pytest.mark.slow

NOWHERE = "postgresql://worker_sync@127.0.0.1:1/catalog"
SIZE = 102
PERIOD = ("--from", "2000-01-01", "--to", "2100-01-01")


@pytest.fixture(scope="module")
def workplace(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a signed ledger of 100 changes, two audited databases of which one is away, and a pack."""
    directory = tmp_path_factory.mktemp("evidence")
    (directory / "anchor").mkdir()
    with new_database(postgres, "control") as control, new_database(postgres, "shop") as shop:
        with psycopg.connect(shop) as connection:
            connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
        document = simple_config(shop, "postgresql://h/b", control=control)
        document["databases"]["catalog"] = {"url": NOWHERE}
        document |= {"audit": {name: {"tables": ["public.*"]} for name in ("shop", "catalog")}}
        document |= {"state_dir": "state", "ledger": {"anchors": ["anchor"]}}
        write_config(directory / "worker-sync.yaml", document)
        Trail(control, directory / "anchor").record(100)
        ran(control)
        (directory / "state").mkdir()
        assert audit(directory, "keys", "new", str(directory / "state" / "ledger.key")).code == 0
        assert audit(directory, "checkpoint").code == 0
        (directory / "keys").write_text(audit(directory, "keys").out)
        done = evidence(directory, str(directory / "pack"), *PERIOD, "--wait", "0")
        assert done.code == 0, done
        (directory / "said").write_text(done.out)
        yield directory


def ran(control: str) -> None:
    """What beat and a worker leave behind."""
    with ControlStore(control) as store:
        store.migrate()
        for entry, task, error in (("audit-checkpoint", "audit.checkpoint", ""), ("other", "cleanup.reports", "")):
            claim = store.schedule.claim_by_hand(entry, task)
            store.schedule.published(claim)
            store.schedule.ended(claim, RunStatus.FINISHED, error)
        claim = store.schedule.claim_by_hand("audit-verification", "audit.verify")
        store.schedule.ended(claim, RunStatus.FAILED, "postgresql://anna:secret@h/a is away")
        store.health.put("ledger", True, "", 12.5)
        store.health.put("broker", True, "", 1.0)


def audit(workplace: Path, *arguments: str) -> Ended:
    return worker_sync("audit", *arguments, config=workplace / "worker-sync.yaml")


def evidence(workplace: Path, *arguments: str) -> Ended:
    return audit(workplace, "evidence", *arguments)


def check(workplace: Path, pack: Path, *arguments: str) -> Ended:
    """Without a configuration."""
    return worker_sync("audit", "evidence", "--check", str(pack), "--keys", str(workplace / "keys"), *arguments)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def pack(workplace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workplace / "pack", tmp_path / "pack"))


def test_a_pack_is_made_checked_and_verified_with_nothing_of_ours(workplace: Path, tmp_path: Path) -> None:
    assert "shop: 100 changes, gaps: 0" in (workplace / "said").read_text()
    pack, note = workplace / "pack", next((workplace / "anchor").rglob("*.note"))
    done = check(workplace, pack, "--anchor", str(note))
    assert (done.code, "Every file is as it was signed" in done.out) == (0, True), done
    key = (workplace / "keys").read_text().strip()
    # The rig puts anchors beside what it looks at.
    export = shutil.copytree(pack / "export", tmp_path / "export")
    assert run_independent(export, [key], [note.read_text()], (0, SIZE)) == (0, set(), SIZE)
    names = {"README.md", "counts.json", "export", "key-events.json", "manifest.json", "manifest.note"}
    assert {path.name for path in pack.iterdir()} == names | {"schedule-runs.json", "verification.json"}
    assert not list(workplace.glob(".pack*"))


def test_trails_say_how_far_they_are_and_whether_that_is_all(workplace: Path) -> None:
    sources = read(workplace / "pack" / "counts.json")["sources"]
    shop = sources["shop"]["trail"]
    assert (shop["pipeline"], shop["changes_in_all"]) == ("audit.shop", 100)
    assert shop["shards"]["0"]["recorded_position"] == "0000000000000002/end/0"
    # Nobody captures: what is committed in the source is not recorded.
    assert shop["source"]["position"]
    assert (shop["source"]["all_recorded"], "behind" in shop["source"]["why"]) == (False, True)
    catalog = sources["catalog"]
    assert (catalog["entries"], catalog["trail"]["shards"]) == ({}, {})
    assert (catalog["trail"]["source"]["position"], catalog["trail"]["source"]["all_recorded"]) == (None, None)


def test_runs_of_the_schedule_and_the_last_verification_are_listed(workplace: Path) -> None:
    document = read(workplace / "pack" / "schedule-runs.json")
    assert set(document["entries"]) == {"audit-checkpoint", "audit-verification"}
    runs = {name: entry["runs"] for name, entry in document["entries"].items()}
    assert [run["status"] for run in runs["audit-checkpoint"]] == ["finished"]
    assert [run["status"] for run in runs["audit-verification"]] == ["failed"]
    assert "secret" not in json.dumps(document)
    kept_from = document["entries"]["audit-checkpoint"]["kept_from"]
    assert kept_from == runs["audit-checkpoint"][0]["scheduled_for"]
    assert document["health"]["ok"] is True
    assert document["health"]["at"] <= read(workplace / "pack" / "manifest.json")["made_at"]


def test_runs_outside_of_the_period_are_not_listed(workplace: Path) -> None:
    with ControlStore(read_control(workplace)) as store:
        kept_from = store.schedule.kept_from("audit-checkpoint")
        assert kept_from is not None
        assert store.schedule.kept_from("nothing") is None
        past, future = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        assert len(store.schedule.within("audit-checkpoint", kept_from, future)) == 1
        assert store.schedule.within("audit-checkpoint", past, kept_from) == []


def read_control(workplace: Path) -> str:
    document = yaml.safe_load((workplace / "worker-sync.yaml").read_text())
    return str(document["control"])


def test_a_script_is_told_the_same_in_json(workplace: Path, pack: Path, tmp_path: Path) -> None:
    done = evidence(workplace, str(tmp_path / "new"), *PERIOD, "--wait", "0", "--json")
    assert (done.code, done.json["first"], done.json["end"], done.json["exit_code"]) == (0, "0", str(SIZE), 0), done
    assert done.json["verification"] == {"export": {}, "tables": {}}
    (pack / "counts.json").write_text("{}")
    (pack / "README.md").unlink()
    (pack / "more").write_text("")
    done = check(workplace, pack, "--json")
    assert (done.code, done.json["counts"]) == (10, {"altered": 1, "missing": 1, "inserted": 1}), done


def test_a_pack_that_was_altered_is_told_to_people(workplace: Path, pack: Path) -> None:
    (pack / "README.md").unlink()
    done = check(workplace, pack)
    assert (done.code, "missing   README.md" in done.out) == (11, True), done
    (pack / "manifest.json").unlink()
    assert check(workplace, pack).code == 11


def test_a_pack_of_another_key_is_unsigned(workplace: Path, pack: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.keys"
    other.write_text(audit(workplace, "keys", "new", str(tmp_path / "other.key")).out)
    done = worker_sync("audit", "evidence", "--check", str(pack), "--keys", str(other))
    assert (done.code, "no signature is of a trusted key" in done.out) == (15, True), done


def test_a_period_without_entries_has_a_pack(workplace: Path, tmp_path: Path) -> None:
    done = evidence(workplace, str(tmp_path / "empty"), "--from", "1990-01-01", "--to", "1991-01-01", "--wait", "0")
    assert (done.code, "no entries" in done.out) == (0, True), done
    assert check(workplace, tmp_path / "empty").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2026-02-01", "--to", "2026-01-01"], "is not before"),
        (["--from", "2026-01-01", "--to", "2026-01-01"], "is not before"),
        (["--from", "soon", "--to", "2026-01-01"], "is no time"),
        (["--from", "2026-01-01", "--to", "2026-02-30"], "is no time"),
        (["--from", "0001-01-01T00:00:00+14:00", "--to", "2026-01-01"], "no time in UTC"),
        (["--from", "999999999d", "--to", "2026-01-01"], "is no time"),
        (["--from", "2026-01-01"], "--to"),
        ([], "--from"),
        (["--check"], "--keys"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line_and_writes_nothing(
    arguments: list[str], said: str, workplace: Path, tmp_path: Path
) -> None:
    done = evidence(workplace, str(tmp_path / "pack"), *arguments)
    assert (done.code, said in done.err, "Traceback" in done.err) == (2, True, False), done
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_there_stays_as_it_is(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    done = evidence(workplace, str(tmp_path), *PERIOD)
    assert (done.code, "exists" in done.err) == (2, True), done
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    done = check(workplace, tmp_path / "kept")
    assert (done.code, "no evidence pack" in done.err) == (2, True), done
    assert check(workplace, tmp_path).code == 11
