"""Traces and JSON logs of the real programs, on real servers, with a collector that decodes what it is sent."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from tests.acceptance.orders import arrives, create, run
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.otlp import Collector, Span, collector
from tests.fixtures.program import simple_config, start, worker_sync, write_config
from tests.integration.worker_rig import worker_rig
from worker_sync.core.spans import ATTRIBUTES, PARENT
from worker_sync.store import ControlStore

pytestmark = pytest.mark.slow

PIPELINE = "shop-to-reporting"
#: A value of a row, and the collector's token.
ROW, TOKEN = "a-value-of-a-row", "the-collectors-token"
TASK_ID = "worker_sync.task_id"
#: Seconds in which every role ends, whatever its collector does.
ENDS_S = 25.0


@dataclass
class System:
    config: Path
    control: str
    collector: Collector
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *roles: str) -> None:
        for role in roles:
            log = self.config.with_name(f"{role.split()[0]}.log")
            self.processes[role] = start(["--config", str(self.config), *role.split()], log)

    def lines(self, role: str) -> list[dict[str, Any]]:
        """The role's log; every line is JSON."""
        text = self.config.with_name(f"{role}.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def said(self, role: str, action: str) -> list[dict[str, Any]]:
        return [line for line in self.lines(role) if line.get("action") == action]

    def stop(self) -> float:
        """Seconds until all have ended in order."""
        begun = time.monotonic()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {role: process.wait(ENDS_S) for role, process in self.processes.items()}
        assert set(codes.values()) == {0}, codes
        return time.monotonic() - begun


@pytest.fixture
def system(postgres: str, source_db: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[System]:
    with new_database(postgres, "control") as control, collector() as listening:
        create(source_db)
        more = {
            "control": control,
            "broker": redis_url,
            "state_dir": str(tmp_path / "state"),
            "audit": {"shop": {"tables": ["public.*"]}},
            "log": {"format": "json", "level": "debug"},
            "tracing": {"endpoint": listening.url, "headers": {"authorization": f"Bearer {TOKEN}"}},
        }
        config = write_config(tmp_path / "worker-sync.yaml", simple_config(source_db, target_db, **more))
        assert worker_sync("init", config=config).code == 0
        made = System(config, control, listening)
        try:
            yield made
        finally:
            for process in made.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()


def chain(spans: list[Span], *names: str) -> list[Span]:
    """Spans of these names, each the child of the one before."""
    ids = {span.id: span for span in spans}
    for last in (span for span in spans if span.name == names[-1]):
        found = [last]
        while found[0].parent in ids:
            found.insert(0, ids[found[0].parent])
        if [span.name for span in found] == list(names) and len({span.trace for span in found}) == 1:
            return found
    return []


def test_one_trace_leads_from_the_capture_over_the_task_to_the_target_and_no_row_is_in_it(
    system: System, source_db: str, target_db: str
) -> None:
    system.start("capture shop", "worker", "beat", "exporter")
    run(source_db, f"INSERT INTO orders VALUES (2, '{ROW}'), (3, '{ROW}')")
    arrives(target_db, 3, ROW)

    def streamed() -> list[Span]:
        of = [span for span in system.collector.spans if span.attributes.get("worker_sync.changes") != 0]
        return chain(of, "publish", "sync.apply", "target transaction")

    published, applied, written = eventually(streamed, 30, "one trace from capture to target")
    assert [span.role for span in (published, applied, written)] == ["capture", "worker", "worker"]
    assert [span.kind.removeprefix("SPAN_KIND_") for span in (published, applied, written)] == [
        "PRODUCER",
        "CONSUMER",
        "CLIENT",
    ]
    same = ("pipeline", "shard", "after", "upto", "changes")
    assert [published.attributes[f"worker_sync.{name}"] for name in same] == [
        applied.attributes[f"worker_sync.{name}"] for name in same
    ]
    assert applied.attributes["worker_sync.queue_wait_ms"] >= 0
    assert (applied.attributes["worker_sync.outcome"], applied.attributes["worker_sync.target"]) == (
        "succeeded",
        "reporting",
    )
    assert written.attributes["worker_sync.verdict"] == "applied"

    assert eventually(lambda: chain(system.collector.spans, "publish", "audit.append", "target transaction"), 30)
    assert eventually(lambda: chain(system.collector.spans, "schedule heartbeat", "sync.heartbeat"), 30)
    known = {f"worker_sync.{name}" for name in ATTRIBUTES} | {"error.type"}
    assert {name for span in system.collector.spans for name in span.attributes} - known == set()
    assert {headers["authorization"] for headers in system.collector.headers} == {f"Bearer {TOKEN}"}

    # The log names the same batch, task and trace on both sides.
    [sent] = [line for line in system.said("capture", "sent") if line["task_id"] == applied.attributes[TASK_ID]]
    [done] = [line for line in system.said("worker", "applied") if line["task_id"] == sent["task_id"]]
    for line in (sent, done):
        assert line["trace_id"] == published.trace
        assert [line[name] for name in same[:4]] == [published.attributes[f"worker_sync.{name}"] for name in same[:4]]
    assert {line["source"] for line in system.lines("capture") if line.get("action") == "capture_started"} == {"shop"}

    # A collector that is away changes nothing, and says so once.
    system.collector.stop()
    run(source_db, "INSERT INTO orders VALUES (4, 'later')")
    arrives(target_db, 4, "later")
    eventually(lambda: dropped(system.control) > 0, 30, "dropped spans are counted")
    assert system.stop() < ENDS_S
    for role in ("capture", "worker", "beat"):
        assert len([line for line in system.said(role, "tracing-away") if line["level"] == "warning"]) == 1
    for role in ("capture", "worker", "beat", "exporter"):
        assert system.lines(role)
        text = system.config.with_name(f"{role}.log").read_text()
        assert "Traceback" not in text
        assert TOKEN not in text
        assert ROW not in text
    assert ROW.encode() not in b"".join(system.collector.bodies)
    with psycopg.connect(system.control) as connection:
        [(entries,)] = connection.execute("SELECT count(*) FROM worker_sync_ledger.entries").fetchall()
    assert entries >= 3


def dropped(control: str) -> int:
    with ControlStore(control) as store:
        return sum(report.status.get("usage", {}).get("spans_dropped", 0) for report in store.reports.all())


ABOVE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest.mark.long
def test_tries_are_siblings_and_what_a_letter_sends_again_refers_to_or_goes_on_in_its_trace(
    postgres: str, target_db: str, redis_url: str, tmp_path: Path
) -> None:
    """In the processes of a prefork pool, each of which sends for itself."""
    with (
        new_database(postgres, "control") as control,
        worker_rig(tmp_path, control, target_db, redis_url) as rig,
        collector() as listening,
    ):
        rig.change({"tracing": {"endpoint": listening.url}})
        rig.worker("--pool=prefork", "--concurrency=2", queues="default,dead_letter")

        rig.app.send_task("trial.fails", ("transient",), queue="default", headers={PARENT: ABOVE})
        tries = eventually(
            lambda: found if len(found := listening.named("trial.fails")) >= 3 else [], 60, "three tries"
        )
        assert {(span.trace, span.parent) for span in tries} == {("ab" * 16, "cd" * 8)}
        assert sorted(span.attributes["worker_sync.try"] for span in tries) == [1, 2, 3]
        assert {span.attributes["error.type"] for span in tries} == {"Transient"}
        outcomes = [span.attributes["worker_sync.outcome"] for span in tries]
        assert sorted(outcomes) == ["failed", "retried", "retried"]
        [last] = [span for span in tries if span.attributes["worker_sync.outcome"] == "failed"]
        [letter] = eventually(rig.letters, 60, "the letter")
        assert letter.trace.split("-")[1:3] == [last.trace, last.id]

        replayed = rig.program("dead-letters", "replay", str(letter.id))
        assert replayed.code == 0, replayed

        def others() -> list[Span]:
            return [span for span in listening.named("trial.fails") if span.trace != last.trace]

        again = eventually(others, 60, "it is tried again")[0]
        assert again.links == (f"{last.trace}-{last.id}",)

        rig.app.send_task("no.such.task", queue="default", headers={PARENT: ABOVE})
        rig.app.send_task("dead_letters.drain")
        letters = eventually(lambda: [one for one in rig.letters() if one.task == "no.such.task"], 60, "the message")
        payload = rig.control.dead_letters.payload(letters[0].id)
        assert payload is not None
        assert msgspec.msgpack.decode(payload)["headers"][PARENT] == ABOVE
