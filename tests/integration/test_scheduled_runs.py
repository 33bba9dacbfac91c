"""What workers make of scheduled runs: run once what was sent twice, and record what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from celery import Celery

from beat_schedule.entry import Entry
from tasks.celeryconfig import celery_settings
from tasks.scheduled import HEADER, named_claim, send
from tests.faults.harness import execute
from tests.fixtures.eventually import eventually
from tests.fixtures.program import worker_sync
from tests.fixtures.running import Role, celery
from worker_sync.core.settings import load
from worker_sync.store import ControlStore
from worker_sync.store.schedule import Claim, Run, RunStatus

pytestmark = pytest.mark.timeout(300)

CLEANUP = Entry("cleanup.reports", every_s=3600.0)


@dataclass
class System:
    config: Path
    control_url: str
    control: ControlStore
    app: Celery

    def send(self, claim: Claim, entry: Entry = CLEANUP) -> None:
        send(self.app, claim, entry)

    def run(self, claim: Claim) -> Run:
        found = self.control.schedule.get(claim.entry, claim.scheduled_for)
        assert found is not None
        return found

    def ended(self, claim: Claim) -> bool:
        return self.run(claim).finished_at is not None


@pytest.fixture
def system(target_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    config = tmp_path / "worker-sync.yaml"
    data = {
        "control": target_db,
        "broker": redis_url,
        "state_dir": str(tmp_path / "state"),
        "databases": {"a": {"url": "postgresql://127.0.0.1:1/a"}, "b": {"url": "postgresql://127.0.0.1:1/b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
    }
    config.write_text(yaml.safe_dump(data))
    with ControlStore(target_db) as control:
        control.migrate()
        app = Celery("test", set_as_current=False)
        app.add_defaults(lambda: celery_settings(load(config)))
        yield System(config, target_db, control, app)
        app.close()


@pytest.fixture
def worker(system: System) -> Iterator[Role]:
    with celery(system.config, "worker", "-Q", "cleanup,default", "-n", "w@%h", ready="ready.") as role:
        yield role


def test_a_run_is_recorded_as_finished(system: System, worker: Role) -> None:
    claim = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    system.send(claim)
    eventually(lambda: system.ended(claim))
    assert (system.run(claim).status, system.run(claim).error) == (RunStatus.FINISHED, "")
    system.control.schedule.published(claim)  # a beat that is slower than the worker
    assert system.run(claim).status is RunStatus.FINISHED


def test_a_run_that_was_sent_twice_is_run_once(system: System, worker: Role) -> None:
    claim = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    system.send(claim)
    system.send(claim)
    eventually(lambda: "run_repeated" in worker.text())
    assert worker.text().count("reports-removed") == 1


def test_what_a_replaced_beat_sends_late_is_not_run(system: System, worker: Role) -> None:
    old = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    execute(system.control_url, "UPDATE worker_sync_control.schedule_runs SET token = 7")
    new = Claim(old.entry, old.scheduled_for, old.task, 7)
    system.send(old)
    eventually(lambda: "run_repeated" in worker.text())
    assert not system.ended(new)
    system.send(new)
    eventually(lambda: system.ended(new))
    assert worker.text().count("reports-removed") == 1


def test_a_run_that_fails_is_recorded_with_its_error(system: System, worker: Role) -> None:
    execute(
        system.control_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never remove reports'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON worker_sync_control.reports EXECUTE FUNCTION refuse()",
    )
    claim = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    system.send(claim)
    eventually(lambda: system.ended(claim))
    assert system.run(claim).status is RunStatus.FAILED
    assert "never remove reports" in system.run(claim).error
    again = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    system.send(again)
    eventually(lambda: system.ended(again))
    [letter] = system.control.dead_letters.find()
    assert (letter.task, letter.attempts) == ("cleanup.reports", 2)


def test_a_run_that_no_worker_began_in_time_is_recorded_as_failed(system: System) -> None:
    claim = system.control.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
    system.send(claim, Entry("cleanup.reports", every_s=3600.0, expires_s=0.05))
    with celery(system.config, "worker", "-Q", "cleanup,default", "-n", "w@%h", ready="ready."):
        eventually(lambda: system.ended(claim))
    assert (system.run(claim).status, "expired" in system.run(claim).error) == (RunStatus.FAILED, True)


@pytest.mark.parametrize("said", ["x", ["x"], ["\0", "2026-01-01T00:00:00+00:00", "t", 1], ["e", "never", "t", 1], 7])
def test_a_claim_that_is_none_is_no_claim(said: object) -> None:
    assert named_claim({HEADER: said, "headers": "x"}) is None


def test_the_schedule_is_listed_with_what_came_of_each_entry(system: System, worker: Role) -> None:
    done = worker_sync("schedule", "run", "report-cleanup", config=system.config)
    assert done.code == 0, done.err
    eventually(lambda: bool(system.control.schedule.newest("report-cleanup")[0].finished_at))
    listed = {entry["entry"]: entry for entry in worker_sync("schedule", "list", "--json", config=system.config).json}
    last = listed["report-cleanup"]["last"]
    assert (last["status"], last["by_hand"], listed["report-cleanup"]["task"]) == ("finished", True, "cleanup.reports")
    assert listed["heartbeat"]["last"] is None
    assert listed["heartbeat"]["next"]
    shown = worker_sync("schedule", "list", config=system.config)
    assert "17 * * * * UTC" in shown.out
    assert "finished" in shown.out


def test_an_entry_that_is_not_there_is_named_with_what_was_meant(system: System) -> None:
    done = worker_sync("schedule", "run", "report-clean", config=system.config)
    assert done.code == 2
    assert "did you mean 'report-cleanup'" in done.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"schedules": {"hartbeat": {"every_s": 2}}},
            "schedules.hartbeat: no entry 'hartbeat'; did you mean 'heartbeat'",
        ),
        (
            {"schedules": {"heartbeat": {"crontab": "61 * * * *"}}},
            "schedules.heartbeat.crontab: minute 61 is outside of",
        ),
        ({"timezone": "Europe/Berln"}, "timezone: no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'"),
        (
            {"schedules": {"report-cleanup": {"timezone": "CEST+1"}}},
            "schedules.report-cleanup.timezone: no time zone 'CEST+1'",
        ),
    ],
)
def test_a_schedule_that_is_wrong_ends_beat_with_2_and_its_path(
    system: System, more: dict[str, object], message: str
) -> None:
    system.config.write_text(yaml.safe_dump({**yaml.safe_load(system.config.read_text()), **more}))
    for command in (["beat"], ["config", "validate"]):
        done = worker_sync(*command, config=system.config)
        assert (done.code, message in done.err) == (2, True), done.err
        assert "Traceback" not in done.err
