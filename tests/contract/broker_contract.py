"""What every broker must do for us, tried with real worker processes.

A broker joins with a subclass that gives its URL, its server and its quirks.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import kombu
import msgspec
import pytest
import yaml

from beat_schedule.entry import Entry
from tasks import messages, rabbitmq
from tasks.application import Application, uses_rabbitmq
from tasks.celeryconfig import celery_settings
from tasks.parcels import Parcel, publish
from tasks.rabbitmq import DELIVERY_LIMIT
from tasks.scheduled import HEADER
from tasks.scheduled import send as send_run
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.running import Role, celery
from worker_sync.core.errors import ConfigError, Unreachable
from worker_sync.core.secrets import Url
from worker_sync.core.settings import load
from worker_sync.exporter.queues import Waiting, queues_of
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import DeadLetter, LetterKind
from worker_sync.store.schedule import Claim, Run, RunStatus

T = TypeVar("T")

#: Patience for things that happen in a second on an idle machine.
LONG_S = 60.0
SECRET = "a-value-of-a-row"
#: Seconds on both sides of what a broker may handle in different ways.
COUNTDOWNS = (0.03, 0.5, 0.9, 2.4)
#: Pools with the number of tasks that they do at a time.
POOLS = {"solo": 1, "threads": 3, "prefork": 3}
#: Seconds that a scheduled run may wait for a worker, which is there.
EXPIRES_S = 5.0
#: Tasks that always wait while workers come and go, and those that each of them does before it is ended.
BACKLOG = 60
TASKS = 60
#: Seconds that such a worker has, and what a slow machine adds.
GRACE_S = 2.0
SPARE_S = 20.0
#: Tasks with the seconds before each of their retries.
RETRIES = {"test.short": (0.05, 0.15, 0.4), "test.long": (0.9, 1.35, 1.5)}


class BrokerServer(Protocol):
    """A broker to break."""

    @property
    def url(self) -> str: ...
    def kill(self) -> None: ...
    def start(self) -> str: ...


@dataclass
class Bed:
    config: Path
    app: Application
    store: ControlStore
    url: str

    def worker(self, *options: str, queues: str = "default") -> AbstractContextManager[Role]:
        # RabbitMQ lets two workers of one name not live side by side.
        arguments = ("worker", "-Q", queues, "-n", f"{queues}@%h", "--without-gossip", "--without-mingle", *options)
        return celery(self.config, *arguments, ready="ready.", app="tests.contract.broker_tasks")

    def send(self, task: str, word: str, **options: Any) -> None:
        self.app.send_task(task, (str(self.config.parent), word), queue="default", **options)

    def publish_raw(self, body: bytes, headers: dict[str, Any], content_type: str, queue: str = "default") -> None:
        """A message that no Celery would send."""
        with kombu.Connection(self.url) as connection, connection.channel() as channel:
            place = self.app.amqp.queues[queue](channel)
            place.declare()
            producer = kombu.Producer(channel, exchange=place.exchange, routing_key=queue)
            producer.publish(body, headers=headers, content_type=content_type, content_encoding="binary")

    def notes(self) -> list[str]:
        file = self.config.parent / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def await_notes(self, *words: str) -> None:
        eventually(lambda: set(words) <= set(self.notes()), LONG_S, f"{words} are noted")

    def go(self) -> None:
        (self.config.parent / "go").touch()

    def letters(self) -> list[DeadLetter]:
        return self.store.dead_letters.find()

    def await_letters(self, count: int) -> list[DeadLetter]:
        """Drain until there are so many letters."""

        def enough() -> list[DeadLetter]:
            found = self.letters()
            return found if len(found) >= count else []

        found = self.drain_until(enough, "letters")
        assert len(found) == count
        assert {letter.kind for letter in found} == {LetterKind.MESSAGE}
        return found

    def drain_until(self, look: Callable[[], T | None], what: str) -> T:
        def drained() -> T | None:
            self.app.send_task("dead_letters.drain")
            time.sleep(0.3)  # each look sends a task
            return look()

        found = eventually(drained, LONG_S, what)
        assert found is not None
        return found

    def ended(self, claim: Claim) -> Run | None:
        run = self.store.schedule.get(claim.entry, claim.scheduled_for)
        return run if run is not None and run.finished_at is not None else None

    def await_letter(self) -> DeadLetter:
        """Drain until there is the one letter."""
        return self.await_letters(1)[0]

    def depths(self) -> dict[str, Waiting]:
        asking = queues_of(Url(self.url), ["default", "cleanup"])
        try:
            return dict(asking())
        finally:
            asking.close()


class BrokerContract:
    """The suite."""

    @pytest.fixture
    @abstractmethod
    def broker_url(self) -> str: ...

    @pytest.fixture
    @abstractmethod
    def broker_server(self) -> BrokerServer:
        """The server behind the URL, to be killed."""

    def forget_worker(self, bed: Bed) -> None:
        """Let the time pass after which the broker gives a vanished worker's messages to others."""

    @pytest.fixture
    def bed(self, postgres: str, broker_url: str, tmp_path: Path) -> Iterator[Bed]:
        with new_database(postgres, "control") as control, ControlStore(control) as store:
            store.migrate()
            config = tmp_path / "worker-sync.yaml"
            data = {
                "control": control,
                "broker": broker_url,
                "state_dir": str(tmp_path / "state"),
                "databases": {"a": {"url": "postgresql://127.0.0.1/a"}, "b": {"url": "postgresql://127.0.0.1/b"}},
                "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["public.*"]}},
            }
            config.write_text(yaml.safe_dump(data))
            app = Application("test", set_as_current=False)
            app.add_defaults(lambda: celery_settings(load(config)))
            yield Bed(config, app, store, broker_url)
            app.close()

    # -- delivery

    def test_every_task_is_done_once(self, bed: Bed) -> None:
        words = [str(number) for number in range(50)]
        with bed.worker():
            for word in words:
                bed.send("test.note", word)
            bed.await_notes(*words)
            eventually(lambda: bed.depths()["default"].depth == 0, LONG_S)
        assert bed.notes() == words

    def test_the_task_of_a_killed_worker_is_done_by_another(self, bed: Bed) -> None:
        with bed.worker() as worker:
            bed.send("test.hold", "held")
            bed.await_notes("held begun")
            worker.kill()
        bed.go()
        with bed.worker():
            self.forget_worker(bed)
            bed.await_notes("held done")
        assert bed.notes() == ["held begun", "held begun", "held done"]

    def test_a_stopped_worker_ends_its_task_and_hands_back_the_others(self, bed: Bed) -> None:
        words = [str(number) for number in range(5)]
        with bed.worker() as worker:
            bed.send("test.hold", "held")
            bed.await_notes("held begun")
            for word in words:
                bed.send("test.note", word)
            worker.process.terminate()
            bed.go()
            assert worker.process.wait(LONG_S) == 0
        with bed.worker():
            bed.await_notes("held done", *words)
        assert sorted(bed.notes()) == sorted(["held begun", "held done", *words])

    @pytest.mark.long
    @pytest.mark.parametrize("pool", POOLS)
    def test_workers_stopped_under_load_lose_no_task_and_end_in_time(
        self, bed: Bed, pool: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORKER_SYNC_TEST_GRACE", str(GRACE_S))
        with bed.config.open("a") as config:
            config.write(f"worker: {{pool: {pool}, concurrency: {POOLS[pool]}}}\n")
        stuck = [f"stuck-{number}" for number in range(2)]
        stops = (None, *stuck, None)
        with sending(bed) as words:
            for word in stops:
                with bed.worker() as worker:
                    self.under_load(bed, word)
                    took = ended(worker)
                    assert took < GRACE_S + SPARE_S
                    assert word is None or took >= GRACE_S, "the stuck task was not waited for"
        with bed.worker():
            eventually(lambda: len(bed.notes()) >= len(words) + len(stuck), LONG_S, "all tasks are done")
            eventually(lambda: bed.depths()["default"].depth == 0, LONG_S)
        notes, sent = Counter(bed.notes()), Counter([*words, *stuck])
        assert sent - notes == {}, "lost"
        # Celery forgets a task whose process has begun it but not yet said so when the signal comes.
        assert (notes - sent).total() <= (len(stops) * POOLS[pool] if pool == "prefork" else 0), "done twice"

    def under_load(self, bed: Bed, stuck: str | None) -> None:
        """Until tasks are done, and one that outlasts the grace is begun."""
        before = len(bed.notes())
        eventually(lambda: len(bed.notes()) >= before + TASKS, LONG_S, "tasks are done")
        if stuck is not None:
            bed.send("test.stick", stuck)
            eventually((bed.config.parent / stuck).exists, LONG_S, f"{stuck} is begun")

    # -- waiting

    def test_countdowns_and_retries_wait_as_long_as_they_say_and_arrive(self, bed: Bed) -> None:
        with bed.worker():
            begun = time.time()
            for countdown in COUNTDOWNS:
                bed.send("test.long", str(countdown), countdown=countdown, retries=3)
            for task in RETRIES:
                bed.send(task, task)
            eventually(lambda: len(bed.notes()) == len(COUNTDOWNS) + 4 * len(RETRIES), LONG_S)
        noted: dict[str, list[float]] = {}
        for word, at in (line.split() for line in bed.notes()):
            noted.setdefault(word, []).append(float(at))
        for countdown in COUNTDOWNS:
            assert noted[str(countdown)][0] >= begun + countdown - 0.01
        for task, waits in RETRIES.items():
            gaps = [later - earlier for earlier, later in pairwise(noted[task])]
            assert all(gap >= wait - 0.01 for gap, wait in zip(gaps, waits, strict=True)), gaps

    # -- what can't reach a task

    def test_what_cannot_reach_a_task_becomes_a_letter_and_later_ones_flow(self, bed: Bed) -> None:
        known = {"task": "test.note", "lang": "py", "retries": 0}
        with bed.worker(queues="default,dead_letter") as worker:
            bed.app.send_task("test.not-here", (SECRET,), queue="default", task_id="unknown")
            bed.publish_raw(SECRET.encode(), {}, "application/x-unheard-of")
            bed.publish_raw(b"\xc1" + SECRET.encode(), {**known, "id": "damaged"}, "application/x-msgpack")
            bed.publish_raw(SECRET.encode(), {**known, "id": "refused"}, "application/x-python-serialize")
            bed.send("test.note", "later")
            bed.await_notes("later")
            letters = {letter.identity: letter for letter in bed.await_letters(4)}
            assert SECRET not in worker.text()
        assert {letter.queue for letter in letters.values()} == {"default"}
        unknown = letters["message:unknown:0:0"]
        assert (unknown.error_type, unknown.task) == ("UnknownTask", "test.not-here")
        assert letters["message:damaged:0:0"].task == letters["message:refused:0:0"].task == "test.note"

    def test_a_letter_is_sent_again_and_what_fails_again_is_another_letter(self, bed: Bed) -> None:
        with bed.worker(queues="default,dead_letter"):
            bed.send("test.nope", "replayed", task_id="known")
            payload = bed.store.dead_letters.payload(bed.await_letter().id)
            assert payload is not None
            messages.replay(payload, bed.app)
            first, second = bed.await_letters(2)
            assert [first.identity, second.identity] == ["message:known:0:0", "message:known:0:1"]
            messages.replay(payload.replace(b"test.nope", b"test.note"), bed.app)
            bed.await_notes("replayed")

    def test_a_letter_of_a_scheduled_run_is_done_when_it_is_replayed_however_late(self, bed: Bed) -> None:
        claim = bed.store.schedule.claim_by_hand("report-cleanup", "test.nope")
        said = [claim.entry, claim.scheduled_for.isoformat(), claim.task, claim.token]
        with bed.worker(queues="default,dead_letter"):
            bed.send("test.nope", "replayed", expires=EXPIRES_S, headers={HEADER: said})
            too_late = time.time() + EXPIRES_S
            payload = bed.store.dead_letters.payload(bed.await_letter().id)
            assert payload is not None
            run = bed.ended(claim)
            assert run is not None
            assert run.status is RunStatus.FAILED
            eventually(lambda: time.time() > too_late, LONG_S)
            messages.replay(payload.replace(b"test.nope", b"test.note"), bed.app)
            bed.await_notes("replayed")

    def test_a_scheduled_run_that_nobody_began_in_time_has_failed_and_is_no_letter(self, bed: Bed) -> None:
        self.prepare(bed)
        claim = bed.store.schedule.claim_by_hand("report-cleanup", "cleanup.reports")
        send_run(bed.app, claim, Entry("cleanup.reports", every_s=3600.0, expires_s=0.05))
        with bed.worker(queues="cleanup,default,dead_letter"):
            run = bed.drain_until(lambda: bed.ended(claim), "the run has ended")
            bed.app.send_task("test.not-here", queue="default", task_id="later")
            [letter] = bed.await_letters(1)
        assert (run.status, "expired" in run.error) == (RunStatus.FAILED, True)
        assert letter.task == "test.not-here"

    def test_a_letter_of_a_queue_that_is_not_ours_is_refused(self, bed: Bed) -> None:
        with pytest.raises(ConfigError, match="none of our queues"):
            messages.replay(msgspec.msgpack.encode({"queue": "elsewhere"}), bed.app)

    def test_a_message_that_is_given_back_too_often_becomes_a_letter(self, bed: Bed) -> None:
        self.prepare(bed)
        bed.send("test.note", "never")
        with kombu.Connection(bed.url) as connection, connection.channel() as channel:
            queue = bed.app.amqp.queues["default"](channel)
            for _ in range(DELIVERY_LIMIT + 1):
                eventually(lambda: give_back(queue), LONG_S, "it is there")
        with bed.worker(queues="default,dead_letter"):
            letter = bed.await_letter()
        assert (letter.error_type, letter.task, letter.queue) == ("delivery_limit", "test.note", "default")
        assert bed.notes() == []

    @pytest.mark.long
    def test_a_message_that_kills_its_worker_again_and_again_becomes_a_letter(self, bed: Bed) -> None:
        with bed.config.open("a") as config:
            config.write("worker: {pool: prefork, concurrency: 1}\n")
        with bed.worker():
            bed.send("test.crash", "crashed")
            bed.send("test.note", "later")
            bed.await_notes("later")
            eventually(lambda: bed.notes().count("crashed") > DELIVERY_LIMIT, LONG_S, "it crashes")
            with bed.worker(queues="dead_letter"):
                letter = bed.await_letter()
            crashes = bed.notes().count("crashed")
        assert letter.error_type == "delivery_limit"
        assert (letter.task, letter.queue) == ("test.crash", "default")
        assert crashes == DELIVERY_LIMIT + 1

    # -- a broker that fails

    def test_a_publisher_notices_within_seconds_that_the_broker_is_away(
        self, bed: Bed, broker_server: BrokerServer
    ) -> None:
        publish(bed.app, Parcel("a-to-b", 0, "1", "2", b"bytes", "a batch"))
        broker_server.kill()
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            publish(bed.app, Parcel("a-to-b", 0, "2", "3", b"bytes", "a batch"))
        assert time.monotonic() - begun < 20
        broker_server.start()
        eventually(lambda: self.published(bed), LONG_S, "publishing works again")

    def test_workers_go_on_with_a_broker_that_was_killed_and_is_back(
        self, bed: Bed, broker_server: BrokerServer
    ) -> None:
        with bed.worker() as worker:
            bed.send("test.note", "before")
            bed.await_notes("before")
            broker_server.kill()
            broker_server.start()
            eventually(lambda: self.sent(bed, "after"), LONG_S, "publishing works again")
            bed.await_notes("after")
            assert worker.process.poll() is None

    @abstractmethod
    def refuse(self, server: Any) -> None:
        """Make the broker take no messages."""

    @abstractmethod
    def take(self, server: Any) -> None:
        """Make it take messages again."""

    def test_a_broker_that_takes_no_messages_is_named_and_recovers(self, bed: Bed, broker_server: BrokerServer) -> None:
        assert self.published(bed)
        self.refuse(broker_server)
        try:
            begun = time.monotonic()
            with pytest.raises(Unreachable):
                publish(bed.app, Parcel("a-to-b", 0, "2", "3", b"bytes" * 1000, "a batch"))
            assert time.monotonic() - begun < 40
        finally:
            self.take(broker_server)
        eventually(lambda: self.published(bed), LONG_S, "publishing works again")

    def published(self, bed: Bed) -> bool:
        try:
            publish(bed.app, Parcel("a-to-b", 0, "1", "2", b"bytes", "a batch"))
        except Unreachable:
            return False
        return True

    def sent(self, bed: Bed, word: str) -> bool:
        try:
            bed.send("test.note", word)
        except kombu.exceptions.OperationalError:
            return False
        return True

    # -- what can be seen

    def test_depth_and_age_are_those_of_what_waits_and_unknown_without_a_broker(
        self, bed: Bed, broker_server: BrokerServer
    ) -> None:
        self.prepare(bed)
        asking = queues_of(Url(bed.url), ["default", "cleanup"])
        try:
            assert asking()["default"] == Waiting(0, None)
            for number in range(3):
                bed.send("test.note", str(number))
            eventually(lambda: asking()["default"].depth == 3, LONG_S)
            age = asking()["default"].oldest_age_s
            assert age is not None
            eventually(lambda: (asking()["default"].oldest_age_s or 0) > age + 0.5, what="it grows older")
            assert asking()["cleanup"] == Waiting(0, None)
            broker_server.kill()
            with pytest.raises(Unreachable):
                asking()
            broker_server.start()
        finally:
            asking.close()

    def prepare(self, bed: Bed) -> None:
        """Create the queues, as `init` does."""
        if uses_rabbitmq(bed.app):
            with kombu.Connection(bed.url) as connection:
                rabbitmq.declare(connection)


@contextmanager
def sending(bed: Bed) -> Iterator[list[str]]:
    """Sends tasks until the block is left, so that there always are some; their words."""
    words: list[str] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.005):
            if len(words) < len(bed.notes()) + BACKLOG:
                bed.send("test.work", str(len(words)))
                words.append(str(len(words)))

    def sender() -> None:
        try:
            send()
        except BaseException as error:  # noqa: BLE001 - shown at the end
            failed.append(error)

    thread = threading.Thread(target=sender)
    thread.start()
    try:
        yield words
    finally:
        stop.set()
        thread.join()
    assert failed == []


def ended(worker: Role) -> float:
    """Ask it to end in order; the seconds that it took."""
    began = time.monotonic()
    assert worker.stop(GRACE_S + SPARE_S) == 0, worker.text()
    took = time.monotonic() - began
    print(f"a worker ended after {took:.2f} s")  # noqa: T201 - a figure to report
    assert "Traceback" not in worker.text(), worker.text()
    return took


def give_back(queue: Any) -> bool:
    """Take a message and hand it back, as a worker does that can't do it; False when there is none yet."""
    message = queue.get(no_ack=False)
    if message is not None:
        message.requeue()
    return message is not None
