"""Spans: off by default and for nothing, bounded and never in the way when they are recorded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from pydantic import SecretStr

from tasks.base import DisposedTask
from tasks.observed import subject_of
from tasks.retry import Policy
from tasks.scheduled import HEADER
from tests.fixtures.eventually import eventually
from tests.fixtures.otlp import Collector, collector
from tests.fixtures.program import environment
from worker_sync.capture.lane import Cut, LaneId
from worker_sync.capture.publisher import Publisher
from worker_sync.core import spans
from worker_sync.core.errors import ConfigError, TargetRejected, Transient
from worker_sync.core.position import Position
from worker_sync.core.sections import Tracing
from worker_sync.core.settings import Settings, parse
from worker_sync.core.spans import LINK, PARENT
from worker_sync.tracing import begin
from worker_sync.tracing.outbox import BATCH, END_S
from worker_sync.tracing.recorder import Recorder, parsed

ABOVE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
NOT_SAMPLED = ABOVE[:-2] + "00"


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    yield
    spans.end()


@pytest.fixture
def listening() -> Iterator[Collector]:
    with collector() as made:
        yield made


def record(url: str, **more: object) -> Recorder:
    recorder = Recorder(Tracing.model_validate({"endpoint": url, "timeout_s": 1, **more}), "test")
    spans.install(recorder)
    return recorder


def test_nothing_of_opentelemetry_is_imported_while_it_is_off() -> None:
    program = (
        "import sys, tasks.app, tasks.observed, worker_sync.capture, worker_sync.cli.app, worker_sync.tracing;"
        "from worker_sync.core import spans;"
        "spans.span('x').__enter__().set(shard=1);"
        # The driver of Redis looks whether it is installed; nobody records or sends.
        "unwanted = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.proto', 'google.protobuf');"
        "sys.exit(any(name.startswith(unwanted) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], env=environment(), check=False).returncode == 0


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "worker_sync.tracing.recorder", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"pip install 'worker-sync\[tracing\]'"):
        begin(settings({}), "worker")
    assert not spans.is_on()


@pytest.mark.parametrize("off", [{"enabled": False}, None])
def test_it_is_off_unless_the_configuration_says_on(off: dict[str, object] | None) -> None:
    begin(settings(off), "worker")
    assert not spans.is_on()


def test_opentelemetrys_own_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    begin(settings({}), "worker")
    assert not spans.is_on()


def settings(tracing: dict[str, object] | None) -> Settings:
    data = {
        "control": "postgresql://db/ws",
        "broker": "redis://127.0.0.1/0",
        "databases": {"a": {"url": "memory://a"}, "b": {"url": "memory://b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
        **({} if tracing is None else {"tracing": tracing}),
    }
    return parse(data, where="test", folder=Path("/nowhere"))


def test_headers_and_the_addresss_password_are_secrets() -> None:
    found = settings({"endpoint": "https://u:hunter2@c", "headers": {"authorization": "Bearer s3cret"}})
    assert found.secrets() >= {"hunter2", "Bearer s3cret"}
    assert "s3cret" not in repr(found.tracing)
    assert "hunter2" not in repr(found.tracing)


# -- what arrives


def test_spans_arrive_with_their_parents_links_and_the_type_of_their_error_alone(listening: Collector) -> None:
    record(listening.url, headers={"x-key": SecretStr("s3cret")})
    with spans.span("outer", parent=ABOVE, link=ABOVE) as outer:
        outer.set(shard=3)
        assert spans.ids() == (outer_trace := ABOVE.split("-")[1], spans.traceparent().split("-")[2])
        with spans.span("inner") as inner:
            inner.fail(TargetRejected("Key (id)=(4711) exists"))
    spans.end()
    [first] = listening.named("outer")
    [second] = listening.named("inner")
    assert (first.trace, first.parent, first.links) == (outer_trace, "cd" * 8, (ABOVE[3:-3],))
    assert (second.trace, second.parent) == (first.trace, first.id)
    assert (first.failed, second.failed, second.attributes) == (False, True, {"error.type": "TargetRejected"})
    assert b"4711" not in b"".join(listening.bodies)
    assert listening.headers[0]["x-key"] == "s3cret"


@pytest.mark.parametrize(("ratio", "parent", "arrives"), [(0.0, "", 0), (1.0, NOT_SAMPLED, 0), (0.0, ABOVE, 1)])
def test_a_trace_is_recorded_as_a_whole_or_not_at_all(
    ratio: float, parent: str, arrives: int, listening: Collector
) -> None:
    record(listening.url, sample_ratio=ratio)
    with spans.span("work", parent=parent) as span:
        assert span.recording is bool(arrives)
        # What follows hears of it either way.
        assert int(spans.traceparent()[-2:], 16) & 1 == arrives
    spans.end()
    assert len(listening.spans) == arrives


@pytest.mark.parametrize("strange", ["", "x", "00-1-2-3", ABOVE.replace("ab", "zz"), "00-" + "0" * 32 + ABOVE[35:], 7])
def test_what_is_no_traceparent_begins_a_new_trace(strange: str) -> None:
    assert parsed(strange) is None


def test_the_places_and_ratios_of_opentelemetrys_variables_are_heeded(
    listening: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our-sync")
    spans.install(Recorder(Tracing(), "test"))
    with spans.span("work"):
        pass
    spans.end()
    assert listening.named("work")
    assert b"our-sync" in listening.bodies[0]


# -- a collector that is away


def test_a_full_queue_drops_and_counts_and_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and never answers
        recorder = record(f"http://127.0.0.1:{deaf.getsockname()[1]}", queue_spans=100, timeout_s=30)
        begun = time.monotonic()
        for _ in range(2000):
            with spans.span("work"):
                pass
        # A span costs some 50 us here; waiting for one request only would be 30 s.
        assert time.monotonic() - begun < 10
        assert recorder.counts()["dropped"] >= 2000 - 100 - BATCH
        begun = time.monotonic()
        spans.end()
        assert time.monotonic() - begun < END_S + 3


def is_counted(recorder: Recorder, counts: dict[str, int]) -> bool:
    return recorder.counts() == counts


def test_a_collector_that_refuses_costs_its_spans_and_gets_the_next_ones(
    listening: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker_sync.tracing")
    recorder = record(listening.url)
    listening.status = 400
    for expected in (1, 2):
        with spans.span("lost"):
            pass
        eventually(partial(is_counted, recorder, {"sent": 0, "dropped": expected}), 20)
    listening.status = 200
    with spans.span("kept"):
        pass
    eventually(partial(is_counted, recorder, {"sent": 1, "dropped": 2}), 20)
    eventually(lambda: said_of(listening.url, caplog)[-1:] == ["tracing-back"], 20)
    assert said_of(listening.url, caplog) == ["tracing-away", "tracing-back"]


def said_of(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The actions logged about one collector: the thread of a test before may still be giving up on its own."""
    return [getattr(line, "action", "") for line in caplog.records if url in line.getMessage()]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_sends_its_own_spans_and_none_of_its_parents(listening: Collector) -> None:
    recorder = record(listening.url)
    with spans.span("parent"):
        pass
    child = os.fork()
    if child == 0:
        try:
            with spans.span("child"):
                pass
            spans.end()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert listening.named("child")
    spans.end()
    assert len(listening.named("parent")) == 1
    assert recorder.counts() == {"sent": 1, "dropped": 0}


# -- how it travels


def test_a_retry_stays_in_its_trace_and_remains_the_scheduled_run_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # It asks the control store, which this is not about.
    monkeypatch.setattr("tasks.base.may_run", lambda _: True)
    app = Celery("spans", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = "spans"

    @app.task(name="spans.fails", base=DisposedTask, policy=Policy(2, 0.0, 0.0, 60.0), shared=False)
    def fails() -> None:
        raise Transient("not now")

    said = {PARENT: ABOVE, LINK: NOT_SAMPLED, HEADER: ["entry", "2026-01-31T12:00:00+00:00", "spans.fails", 7]}
    tracer = build_tracer(fails.name, fails, app=app)
    tracer("one", [], {}, {"id": "one", "delivery_info": {}, "called_directly": False, **said})
    with app.connection() as connection:
        channel: Any = connection.default_channel
        message = channel.basic_get("spans")
    assert message is not None
    assert {name: message.headers.get(name) for name in said} == said


def test_a_batch_that_is_sent_again_belongs_to_the_trace_of_the_first_time(listening: Collector) -> None:
    record(listening.url)
    seen: list[str] = []
    publisher = Publisher(lambda _: seen.append(spans.traceparent()))
    cut = Cut(LaneId("shop", "p", 0, 1), Position("01"), Position("02"), b"data", "summary", None, 3)
    publisher.start()
    publisher.put(cut)
    publisher.put(cut)
    eventually(lambda: len(seen) == 2, 10)
    publisher.stop()
    spans.end()
    first, second = listening.named("publish")
    assert cut.trace == seen[0]
    assert cut.trace.split("-")[1:3] == [first.trace, first.id]
    assert (second.trace, second.parent) == (first.trace, first.id)
    assert [span.attributes["worker_sync.resent"] for span in (first, second)] == [False, True]


def test_a_batchs_subject_is_found_among_arguments_given_by_place_or_by_name() -> None:
    class Task:
        about_pipeline = True

    assert subject_of(Task, ("p", 0, "a", "b", b"batch"), {}) == {
        "pipeline": "p",
        "shard": 0,
        "after": "a",
        "upto": "b",
    }
    assert subject_of(Task, ("p",), {"shard": 1}) == {"pipeline": "p", "shard": 1}


def test_an_address_with_a_path_is_taken_as_it_is(listening: Collector) -> None:
    record(f"{listening.url}/v1/traces")
    with spans.span("work"):
        pass
    spans.end()
    assert listening.named("work")
