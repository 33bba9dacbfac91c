"""What tasks work with: opened on first use, kept for the next task, closed when the process ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.signals import worker_process_shutdown, worker_shutdown

from connectors.base import Sink, Source
from connectors.registry import open_sink, open_source
from tasks.breakers import Breakers
from tasks.configuration import control_url, settings, with_control
from tasks.ledger import open_ledger
from tasks.reporter import Reporter
from tasks.turns import Turns
from worker_sync.core import spans
from worker_sync.core.sections import LEDGER
from worker_sync.core.settings import Settings
from worker_sync.store import ControlStore


class Resources:
    """Connections of one process. Sinks belong to one thread each; the control store is shared."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._sinks: dict[tuple[str, int], Sink] = {}
        self._sources: dict[str, Source] = {}
        self._control: ControlStore | None = None
        self._reporter: Reporter | None = None
        self.breakers = Breakers(settings.breaker)
        self.turns = Turns()

    def control(self) -> ControlStore:
        """The control store."""
        with self._lock:
            if self._control is None:
                self._control = ControlStore(control_url(self.settings), self.breakers.of("control").calling)
            return self._control

    @contextmanager
    def using(self, database: str) -> Iterator[Sink]:
        """This thread's sink of the configured database, behind its breaker. Raises NotNow while that is open.

        After an error the sink is closed: its connection is not to be trusted.
        """
        with self.breakers.of(f"database:{database}").calling():
            try:
                yield self.sink(database)
            except Exception:
                self.drop_sink(database)
                raise
        self.report()

    def report(self) -> None:
        """Have this process reported to the control store from now on, without waiting for it."""
        if self._reporter is None:
            with self._lock:
                if self._reporter is None:
                    self._reporter = Reporter(self.breakers, self.control)
                    self._reporter.start()

    def sink(self, database: str) -> Sink:
        """This thread's sink of the configured database."""
        key = (database, threading.get_ident())
        sink = self._sinks.get(key)
        if sink is None:
            sink = self._sinks[key] = self._opened(database)
        return sink

    def _opened(self, database: str) -> Sink:
        if database == LEDGER:
            return open_ledger(with_control(self.settings))
        return open_sink(database, self.settings.database(database).url.reveal())

    def drop_sink(self, database: str) -> None:
        """Close this thread's sink: after an error its connection is not to be trusted."""
        sink = self._sinks.pop((database, threading.get_ident()), None)
        if sink is not None:
            sink.close()

    def source(self, database: str) -> Source:
        """The source of the configured database."""
        with self._lock:
            if database not in self._sources:
                url = self.settings.source(database).url.reveal()
                self._sources[database] = open_source(database, url)
            return self._sources[database]

    def close(self) -> None:
        """Close everything that was opened."""
        if self._reporter is not None:
            self._reporter.stop()
        open_ones: list[Callable[[], None]] = [sink.close for sink in self._sinks.values()]
        open_ones += [source.close for source in self._sources.values()]
        if self._control is not None:
            open_ones.append(self._control.close)
        self._sinks, self._sources, self._control, self._reporter = {}, {}, None, None
        for close in open_ones:
            close()


_by_process: dict[int, Resources] = {}
_creation = threading.Lock()


def resources() -> Resources:
    """The resources of this process. A forked child gets its own and leaves its parent's connections alone."""
    process = os.getpid()
    found = _by_process.get(process)
    if found is None:
        with _creation:
            found = _by_process.setdefault(process, Resources(settings()))
    return found


@worker_process_shutdown.connect
@worker_shutdown.connect
def close_resources(**_: Any) -> None:
    """Close what this process opened."""
    found = _by_process.pop(os.getpid(), None)
    if found is not None:
        found.close()
    spans.end()
