"""A capture in a thread of the test, with a delivery that the test can make lossy, repeating and disorderly.

Everything is real but the broker: batches go through a queue in this process to sinks of their own.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from connectors.base import Outcome, Sink
from connectors.registry import open_sink
from tasks.ledger import open_ledger
from tasks.parking import Parker
from worker_sync.capture.lane import Cut
from worker_sync.capture.runner import Capture
from worker_sync.core.change import Batch
from worker_sync.core.codec import decode
from worker_sync.core.errors import Halt, Permanent, State, Transient
from worker_sync.core.sections import LEDGER
from worker_sync.core.settings import Settings, parse
from worker_sync.store import ControlStore

log = logging.getLogger(__name__)

Rows = list[tuple[Any, ...]]


class Delivery:
    """Applies what is published, in a thread; `lose`, `repeat` and `shuffle` are probabilities."""

    def __init__(self, settings: Settings, store: ControlStore, seed: int = 1) -> None:
        self._settings = settings
        self._store = store
        self._random = random.Random(seed)
        self._queue: queue.Queue[Cut | None] = queue.Queue()
        self._sinks: dict[str, Sink] = {}
        self.lose = self.repeat = self.shuffle = 0.0
        #: Pipelines whose target takes nothing.
        self.away: frozenset[str] = frozenset()
        self.outcomes: dict[str, int] = {}
        self.published: list[Batch] = []
        self.open = threading.Event()
        self.open.set()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def publish(self, cut: Cut) -> None:
        self.published.append(decode(cut.data))
        if self._random.random() < self.lose or cut.lane.pipeline in self.away:
            return
        self._queue.put(cut)
        if self._random.random() < self.repeat:
            self._queue.put(cut)

    def use(self, settings: Settings) -> None:
        """Deliver by another configuration from now on."""
        self._settings = settings

    def lose_all(self) -> int:
        """Drop what is queued, as a wiped broker does."""
        lost = 0
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
                lost += 1
        return lost

    def stop(self) -> None:
        self.open.set()
        self._queue.put(None)
        self._thread.join()
        for sink in self._sinks.values():
            sink.close()

    def _work(self) -> None:
        while (cut := self._queue.get()) is not None:
            self.open.wait()
            if self._random.random() < self.shuffle:
                self._queue.put(cut)
                continue
            self._apply(cut)

    def _opened(self, target: str) -> Sink:
        if target == LEDGER:
            return open_ledger(self._settings)
        database = self._settings.database(target)
        return open_sink(database.name, database.url.reveal())

    def _apply(self, cut: Cut) -> None:
        batch = decode(cut.data)
        pipeline = self._settings.pipeline(batch.pipeline)
        if pipeline.target not in self._sinks:
            self._sinks[pipeline.target] = self._opened(pipeline.target)
        try:
            sink, limits = self._sinks[pipeline.target], self._settings.dead_letters
            outcome = Parker(sink, pipeline, limits, lambda: self._store.dead_letters).apply(batch)
        except Halt as halt:
            log.error("halted: %s", halt)
            self._store.pipelines.halt(batch.pipeline, halt)
            return
        except Permanent as error:
            log.error("refused: %s", error)
            self._store.pipelines.halt(batch.pipeline, Halt(State.TARGET_REJECTED, str(error), "mend it, then resume"))
            return
        except Transient:
            outcome = Outcome.EARLY
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == Outcome.EARLY:
            self._queue.put(cut)


class Rig:
    """Settings, control store, delivery, and captures that can be started and stopped."""

    def __init__(self, settings: Settings, control: str) -> None:
        self.settings = settings
        self.control = control
        self.store = ControlStore(control)
        self.store.migrate()
        self.delivery = Delivery(settings, self.store)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.exit_code: int | None = None
        self.error: BaseException | None = None

    def start(self, *, stay: bool = False) -> None:
        self._stop = threading.Event()
        self.exit_code = None

        def work() -> None:
            try:
                with ControlStore(self.control) as store:
                    publish = self.delivery.publish
                    self.exit_code = Capture(self.settings, "source", store, publish, self._stop, stay=stay).run()
            except BaseException as error:
                self.error = error
                raise

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self._stop.set()
        self.delivery.stop()
        if self._thread is not None:
            self._thread.join(30)
        self.store.close()


def settings_for(
    source: str, target: str, tables: list[Any], capture: dict[str, Any] | None = None, **pipeline: Any
) -> Settings:
    return parse(
        {
            "databases": {"source": {"url": source}, "target": {"url": target}},
            "pipelines": {"p": {"source": "source", "target": "target", "tables": tables, **pipeline}},
            "capture": {"resend_after_s": 0.5, "confirm_every_s": 0.2, "lease_s": 3, **(capture or {})},
        },
        where="test",
        folder=Path("/nonexistent"),
    )


@contextlib.contextmanager
def rig(settings: Settings, control: str) -> Iterator[Rig]:
    made = Rig(settings, control)
    try:
        yield made
    finally:
        made.close()


def rows_of(url: str, query: str) -> Rows:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def same(source: str, target: str, table: str, order: str = "1") -> bool:
    query = f"SELECT * FROM {table} ORDER BY {order}"
    return has_table(target, table) and rows_of(source, query) == rows_of(target, query)


def has_table(url: str, table: str) -> bool:
    return rows_of(url, f"SELECT to_regclass('{table}') IS NOT NULL") == [(True,)]
