"""A system of several sources and targets of all engines, under mixed traffic, with a witness at every target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.faults.books import Books, SqlBooks, books_of, differences
from tests.faults.harness import CAPTURE, System, marks_in, snapshot_states
from tests.faults.mixed import MixedLoad, Witness
from tests.faults.trails import assert_one_tree, assert_recorded
from tests.fixtures.running import Role
from worker_sync.store import ControlStore

PATIENCE_S = 300.0
#: Changes of one transaction stay in one batch; a killed capture's lease must not take half of the test.
TUNING = {**CAPTURE, "lease_s": 1, "snapshot_rows": 40}


@dataclass(frozen=True, slots=True)
class Route:
    """One pipeline, named after its target; `by` is the URL that the program uses, perhaps through a proxy."""

    source: str
    target: str
    url: str
    by: str = ""


class World(System):
    """`origins` and `copies` are the books of sources and targets, by the name of their database."""

    def __init__(
        self, config: Path, origins: Mapping[str, str], routes: list[Route], control: str, broker: str
    ) -> None:
        super().__init__(
            config, next(iter(origins.values())), {route.target: route.url for route in routes}, control, broker
        )
        self.origins: dict[str, SqlBooks] = {}
        for name, url in origins.items():
            books = books_of(url)
            assert isinstance(books, SqlBooks)
            self.origins[name] = books
        self.copies: dict[str, Books] = {route.target: books_of(route.url) for route in routes}
        self.source_of = {route.target: route.source for route in routes}
        self.witnesses: list[Witness] = []
        self._audited: tuple[str, ...] = tuple(yaml.safe_load(config.read_text())["audit"])
        self._watching = contextlib.ExitStack()

    # -- processes

    def captures(self) -> list[Role]:
        """A capture for every source."""
        return [self.start("capture", name) for name in self.origins]

    # -- how far it is

    def loaded(self) -> bool:
        """The existing rows of all tables are applied in every target."""
        return all(
            snapshot_states(url, name) == [len(self.origins[self.source_of[name]].tables)]
            for name, url in self.targets.items()
        )

    def await_loaded(self, seconds: float = PATIENCE_S) -> None:
        """Until the existing rows are there; from then on the witnesses ask for whole transactions."""
        try:
            self.until(self.loaded, "the existing rows are in every target", seconds)
        except AssertionError as error:
            states = {name: [mark.snapshots for mark in marks_in(url, name)] for name, url in self.targets.items()}
            steps = {witness.name: witness.last_step for witness in self.witnesses}
            raise AssertionError(f"{states}\n{steps}\n{error}") from None
        for witness in self.witnesses:
            witness.complete = True

    def await_news(self, seconds: float = PATIENCE_S) -> None:
        """Until every target has a step that was committed after this was called."""
        goals = {name: books.steps() + 1 for name, books in self.origins.items()}
        self.until(
            lambda: all(w.last_step >= goals[self.source_of[w.name]] for w in self.witnesses),
            f"every target has steps after {goals}",
            seconds,
        )

    # -- the end

    def assert_same(self, seconds: float = 240.0) -> None:
        """Nothing is lost, doubled, or was ever seen out of order, in the targets and in the ledger."""
        self.assert_verified(seconds)
        for target, copy in self.copies.items():
            origin = self.origins[self.source_of[target]]
            for table in origin.tables:
                truth = origin.rows(table)
                assert truth, f"{table} is empty: nothing was tried"
                assert differences(truth, copy.rows(table)) == [], f"{table} in {target}"
        for witness in self.witnesses:
            assert witness.looked, f"nobody looked at {witness.name}"
            assert witness.found[:5] == []
        for name in self._audited:
            done = self.cli_wait(f"audit.{name}", seconds)
            assert done.code == 0, done.text
            assert_recorded(self.control, name, self.origins[name])
        assert_one_tree(self.control)

    # -- traffic

    @contextlib.contextmanager
    def traffic(self, seed: int = 1) -> Iterator[list[MixedLoad]]:
        """Writers at every source and witnesses at every target; the witnesses stay until the world is closed."""
        with contextlib.ExitStack() as stack:
            self.witnesses = [Witness(name, copy) for name, copy in self.copies.items()]
            for witness in self.witnesses:
                self._watching.enter_context(witness)
            yield [stack.enter_context(self._load(name, seed + at)) for at, name in enumerate(self.origins)]

    def _load(self, name: str, seed: int) -> MixedLoad:
        load = MixedLoad(self.origins[name], seed)
        own = [witness for witness in self.witnesses if self.source_of[witness.name] == name]
        load.arrived = lambda: min(witness.last_step for witness in own)
        return load

    def close(self) -> None:
        super().close()
        self._watching.close()


@contextlib.contextmanager
def running_world(
    directory: Path,
    origins: Mapping[str, str],
    routes: list[Route],
    control: str,
    broker: str,
    *,
    by: Mapping[str, str] | None = None,
    rows: int = 50,
    **settings: Any,
) -> Iterator[World]:
    """A configured world with the four tables in its sources, `rows` items in each; nothing runs yet. `by` are URLs
    that the program uses in place of those of origins and of `control`."""
    by = by or {}
    tables = {name: ["public.*"] if url.startswith("postgresql") else ["*"] for name, url in origins.items()}
    data = {
        "control": by.get("control", control),
        "broker": broker,
        "state_dir": str(directory / "state"),
        "databases": {
            **{name: {"url": by.get(name, url)} for name, url in origins.items()},
            **{route.target: {"url": route.by or route.url} for route in routes},
        },
        "pipelines": {
            route.target: {"source": route.source, "target": route.target, "tables": tables[route.source]}
            for route in routes
        },
        "audit": {name: {"tables": found} for name, found in tables.items()},
        "capture": {**TUNING, **settings.pop("capture", {})},
        **settings,
    }
    config = directory / "worker-sync.yaml"
    config.write_text(yaml.safe_dump(data))
    with ControlStore(control) as store:
        store.migrate()
    world = World(config, origins, routes, control, broker)
    (directory / "state").mkdir()
    keyed = world.cli("audit", "keys", "new", str(directory / "state" / "ledger.key"))
    assert keyed.code == 0, keyed.text
    for books in world.origins.values():
        books.create()
        books.open_accounts()
        books.fill_items(rows)
    for copy in world.copies.values():
        copy.create_items()
    try:
        yield world
    finally:
        world.close()
