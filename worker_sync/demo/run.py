"""The demo from the first server to the last comparison."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from connectors.ledger.checkpoints import make_checkpoint
from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tasks.ledger import ledger_url, signing_key, trust
from worker_sync.composition.setup import create_all
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.sections import is_trail
from worker_sync.core.settings import Settings, load
from worker_sync.demo import source
from worker_sync.demo.config import write_config
from worker_sync.demo.data import DataSet
from worker_sync.demo.measure import Lag, Meters
from worker_sync.demo.processes import Processes
from worker_sync.demo.progress import Tracker
from worker_sync.demo.replay import Replay, single_changes
from worker_sync.demo.servers import DemoServers
from worker_sync.demo.summary import LedgerSummary, Summary, TargetSummary
from worker_sync.demo.view import View
from worker_sync.supervisor import Guardian
from worker_sync.verification import Comparison, NotAppliedInTime, Result, Waiter

#: Single changes that are timed once the traffic is over.
SINGLE_CHANGES: Final = 100
#: Seconds between two pictures of the progress, and between two looks at the capture's report.
SHOW_EVERY_S: Final = 0.25
#: Seconds that the snapshot, and then the last changes, may take.
PATIENCE_S: Final = 300.0
STEP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. `rate`: changes per second, None for as many as the targets take. `seconds`: after which
    no more flights are announced, None for all of them however long it takes."""

    flights: int
    rate: float | None
    seconds: float | None


class Demo:
    """One run in one directory; leaving the context stops everything that it started, whatever happened."""

    def __init__(self, directory: Path, options: Options, view: View) -> None:
        self.directory = directory
        self._options = options
        self._view = view
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._servers = DemoServers(directory)
        self._processes: Processes | None = None
        self.settings: Settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._stack.close()

    def run(self) -> Summary:
        """The whole demo. Raises a WorkerSyncError when a part fails."""
        data = DataSet.installed()
        self._start_servers()
        copied = self._fill_source(data)
        copy_seconds = self._start_pipelines()
        with Workspace(self.settings) as space:
            sinks = {name: partial(space.own_sink, p.target) for name, p in self.settings.pipelines.items()}
            with Meters(sinks) as meters:
                pace = (self._options.rate, self._options.seconds)
                replay = Replay(self._servers.source, data.flights(self._options.flights), meters, *pace)
                seconds, loaded = self._replay(replay, meters)
                changes, tasks = meters.produced, {meter.pipeline: meter.batches for meter in meters.all}
                quiet = self._single_changes(meters)
        results = self._compare()
        ledger = self._verify_ledger()
        targets = [TargetSummary(name, quiet[name], loaded[name], results[name], tasks[name]) for name in results]
        return Summary(
            flights=replay.flights,
            copied_rows=copied,
            copy_seconds=copy_seconds,
            changes=changes,
            transactions=replay.transactions,
            seconds=seconds,
            rate=self._options.rate,
            targets=targets,
            ledger=ledger,
            total_seconds=time.monotonic() - self._began,
        )

    @property
    def addresses(self) -> dict[str, str]:
        """Where to look while it runs."""
        exporter, flower = self.settings.exporter, self.settings.flower
        return {
            "metrics": f"http://{exporter.host}:{exporter.port}/metrics",
            "flower": f"http://{flower.host}:{flower.port}",
            "config": str(self.directory / "worker-sync.yaml"),
            "log": str(self.directory / "demo.log"),
        }

    def wait_for_end(self) -> None:
        """Keep everything running until a signal interrupts us or nothing useful runs any more."""
        assert self._processes is not None
        self._processes.wait()

    # -- the steps

    def _start_servers(self) -> None:
        self._view.step(f"Starting {self._servers.names} ...")
        guardian = Guardian(self._servers.shared.state_dir, self._servers.own)
        self._stack.callback(guardian.dismiss)
        self._stack.callback(self._servers.close)
        self._servers.start()

    def _fill_source(self, data: DataSet) -> int:
        with source.connect(self._servers.source) as connection:
            source.create_tables(connection)
            rows = source.load_reference(connection, data)
        self._view.step(f"The source holds {rows:,} rows of airlines, airports, planes and weather.")
        return rows

    def _start_pipelines(self) -> float:
        """Start everything and wait for the snapshot; returns the seconds that the snapshot took."""
        config = write_config(self._servers)
        self.settings = load(config)
        with Workspace(self.settings) as space:
            create_all(space)
            started = time.monotonic()
            self._processes = Processes(space.settings, config, self.directory / "demo.log")
            self._stack.callback(self._processes.stop)
            self._view.step(
                f"Running: capture, worker, beat; {self.addresses['metrics']} and Flower at {self.addresses['flower']}"
            )
            for pipeline in self.settings.pipelines.values():
                self._guarded(space.waiter(pipeline, self._stop))
        seconds = time.monotonic() - started
        self._view.step(f"Existing rows are copied to all targets ({seconds:.1f} s, start of the processes included).")
        return seconds

    def _guarded(self, waiter: Waiter) -> None:
        """Wait in steps, so that processes that gave up are noticed."""
        assert self._processes is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._processes.check()
            try:
                waiter.wait(STEP_S)
                return
            except NotAppliedInTime:
                if time.monotonic() > deadline:
                    raise

    def _replay(self, replay: Replay, meters: Meters) -> tuple[float, dict[str, list[Lag]]]:
        total = 2 * self._options.flights
        limit = "" if self._options.seconds is None else f", for at most {self._options.seconds:.0f} s"
        self._view.step(f"Replaying {self._options.flights:,} flights as inserts, updates and deletes{limit} ...")
        tracker = Tracker(meters, total)
        started = time.monotonic()
        with Workspace(self.settings) as space, replay:
            while replay.is_alive() or meters.arrived < meters.produced:
                self._check(replay)
                reports = space.store.reports.all("capture")
                self._view.show(tracker.look(reports[0].status if reports else None, replay.share))
                with meters.moved:
                    meters.moved.wait(SHOW_EVERY_S)
                self._stop.wait(SHOW_EVERY_S)
        seconds = meters.last_arrival - started
        self._check(replay)
        self._view.show(tracker.look(None, 1.0))
        return seconds, tracker.lags

    def _check(self, replay: Replay) -> None:
        assert self._processes is not None
        self._processes.check()
        if replay.failure is not None:
            raise WorkerSyncError(f"the traffic ended: {replay.failure}") from replay.failure

    def _single_changes(self, meters: Meters) -> dict[str, list[Lag]]:
        self._view.step(f"Timing {SINGLE_CHANGES} single changes, one after the other ...")
        for meter in meters.all:
            meter.take_lags()
            meter.precise()
        single_changes(self._servers.source, meters, SINGLE_CHANGES, self._stop)
        return {meter.pipeline: meter.take_lags() for meter in meters.all}

    def _compare(self) -> dict[str, Result]:
        self._view.step("Comparing every key of every target with the source ...")
        names = list(self.settings.pipelines)
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(self._compare_one, names), strict=True))

    def _compare_one(self, name: str) -> Result:
        pipeline = self.settings.pipeline(name)
        with (
            Workspace(self.settings) as space,
            space.source(pipeline.source).reader() as source_reader,
            space.sink(pipeline.target).reader() as target_reader,
        ):
            waiter = space.waiter(pipeline, self._stop)
            waiter.wait(PATIENCE_S)
            comparison = Comparison(source_reader, target_reader, waiter.catch_up)
            return comparison.run(name, space.pairs(pipeline))

    def _verify_ledger(self) -> LedgerSummary:
        self._view.step("Signing and verifying the audit trail ...")
        with Workspace(self.settings) as space:
            for pipeline in space.settings.flows.values():
                if is_trail(pipeline.name):
                    space.waiter(pipeline, self._stop).wait(PATIENCE_S)
            url, origin = ledger_url(space.settings), space.settings.ledger.origin
            started = time.monotonic()
            make_checkpoint(url, origin, [signing_key(space.settings)])
            with LedgerReader(url) as reader:
                verified = verify_tables(reader, trust(space.settings))
                changes = reader.counted("change")
            return LedgerSummary(changes, time.monotonic() - started, verified)
