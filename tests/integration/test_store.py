"""The control store on a real server: states, signals, checkpoints, reports, and lost connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.fixtures.fix_proxy import ProxyTo
from worker_sync.core.errors import Fenced, Halt, State, Unreachable
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.store import ControlStore
from worker_sync.store.checkpoints import Checkpoint
from worker_sync.store.pipelines import Status
from worker_sync.store.versions import TableVersion


@pytest.fixture
def store(target_db: str) -> Iterator[ControlStore]:
    with ControlStore(target_db) as store:
        store.migrate()
        yield store


SLOT_MISSING = Halt(State.SLOT_MISSING, "slot ws_shop is gone", "worker-sync resync shop-to-reporting")


def test_what_was_never_stopped_is_running(store: ControlStore) -> None:
    assert store.pipelines.get("p").status is Status.RUNNING
    assert store.pipelines.all() == {}


def test_a_halt_has_its_name_and_recovery_until_a_person_resumes(store: ControlStore) -> None:
    standing = store.pipelines.halt("shop-to-reporting", SLOT_MISSING)
    assert (standing.status, standing.reason, standing.detail, standing.recovery) == (
        Status.HALTED,
        "slot-missing",
        "slot ws_shop is gone",
        "worker-sync resync shop-to-reporting",
    )
    store.pipelines.halt("p", SLOT_MISSING)
    assert store.pipelines.pause("p").status is Status.HALTED
    assert store.pipelines.resume("p").status is Status.RUNNING
    assert store.pipelines.get("p").reason == ""


def test_a_recovery_names_the_pipeline_that_it_recovers(store: ControlStore) -> None:
    halt = Halt(State.SLOT_MISSING, "slot ws_shop is gone", "worker-sync resync PIPELINE")
    assert store.pipelines.halt("p", halt).recovery == "worker-sync resync p"


def test_the_first_halt_is_the_one_that_is_shown(store: ControlStore) -> None:
    store.pipelines.halt("p", SLOT_MISSING)
    store.pipelines.halt("p", Halt(State.POSITION_LOST, "a consequence", "x"))
    assert store.pipelines.get("p").reason == "slot-missing"


def test_a_pause_becomes_a_halt_and_pipelines_are_not_sources(store: ControlStore) -> None:
    assert store.pipelines.pause("p", "asked for").detail == "asked for"
    assert store.pipelines.halt("p", SLOT_MISSING).status is Status.HALTED
    assert store.sources.get("p").status is Status.RUNNING


def test_signals_come_in_order_until_they_are_finished(store: ControlStore) -> None:
    first = store.signals.send("shop", "resync", "p", "public.orders")
    second = store.signals.send("shop", "pause", "p")
    store.signals.send("crm", "pause", "q")
    assert [(one.id, one.kind, one.table) for one in store.signals.pending("shop")] == [
        (first, "resync", "public.orders"),
        (second, "pause", None),
    ]
    store.signals.finish(first, "done")
    store.signals.finish(first, "again")
    assert [one.id for one in store.signals.pending("shop")] == [second]
    finished = store.signals.get(first)
    assert finished is not None
    assert finished.result == "done"


def test_an_unknown_kind_of_signal_is_refused(store: ControlStore) -> None:
    with pytest.raises(ValueError, match="explode"):
        store.signals.send("shop", "explode", "p")


def test_a_checkpoint_of_a_replaced_holder_is_refused(store: ControlStore) -> None:
    store.checkpoints.save(Checkpoint("shop", "id", "0A", {"p/0": "0A/end/0"}, token=2))
    store.checkpoints.save(Checkpoint("shop", "id", "0B", {"p/0": "0B/end/0"}, token=2))
    with pytest.raises(Fenced):
        store.checkpoints.save(Checkpoint("shop", "id", "0C", {}, token=1))
    loaded = store.checkpoints.load("shop")
    assert loaded is not None
    assert (loaded.confirmed, loaded.lanes, loaded.token) == ("0B", {"p/0": "0B/end/0"}, 2)
    assert store.checkpoints.load("crm") is None


def test_reports_have_an_age_and_are_forgotten_by_it(store: ControlStore) -> None:
    store.reports.put("capture:shop@1", "capture", "shop", {"window": 3})
    store.reports.put("capture:shop@1", "capture", "shop", {"window": 4})
    store.reports.put("worker@2", "worker", "", {})
    (report,) = store.reports.all("capture")
    assert report.status == {"window": 4}
    assert 0 <= report.age_s < 60
    assert store.reports.forget(60) == []
    assert sorted(store.reports.forget(0)) == ["capture:shop@1", "worker@2"]
    assert store.reports.all() == []


def test_health_and_heartbeats_keep_the_newest(store: ControlStore) -> None:
    store.health.put("broker", False, "refused", None)
    store.health.put("broker", True, "", 1.5)
    store.heartbeats.sent("shop", "0A")
    store.heartbeats.sent("shop", "0B")
    (health,) = store.health.all()
    assert (health.ok, health.detail, health.latency_ms) == (True, "", 1.5)
    assert store.heartbeats.all()["shop"].position == "0B"


def test_a_lost_connection_is_opened_again_without_the_caller_noticing(target_db: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(target_db)
    with ControlStore(proxy.url) as store:
        store.migrate()
        proxy.drop()
        number = store.signals.send("shop", "pause", "p")
        assert [one.id for one in store.signals.pending("shop")] == [number]
        assert proxy.connections == 2


def test_an_unreachable_store_is_said_without_its_password(target_db: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(target_db)
    with ControlStore(proxy.url) as store:
        store.migrate()
        proxy.cut()
        with pytest.raises(Unreachable) as caught:
            store.ping()
        password = proxy.url.split("://")[1].split("@")[0].partition(":")[2]
        assert not password or password not in str(caught.value)
        assert caught.value.exit_code == 3
        proxy.restore()
        store.ping()


def test_a_wrong_password_is_unreachable_and_not_shown(target_db: str) -> None:
    head, _, tail = target_db.partition("://")
    url = f"{head}://nobody:hunter2@{tail.rpartition('@')[2]}"
    with ControlStore(url) as store, pytest.raises(Unreachable) as caught:
        store.ping()
    assert "hunter2" not in str(caught.value)
    assert "nobody" in str(caught.value)


def test_threads_share_one_connection(store: ControlStore) -> None:
    def beat(source: str) -> None:
        for number in range(50):
            store.heartbeats.sent(source, str(number))

    threads = [threading.Thread(target=beat, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {beat.position for beat in store.heartbeats.all().values()} == {"49"}


def versions_of(count: int) -> list[TableVersion]:
    names = [TableName("public", f"t{number}") for number in range(count)]
    return [TableVersion(name, TableSchema(name, (), (), "postgresql")) for name in names]


def test_the_first_versions_of_a_pipelines_tables_are_never_seen_in_part(store: ControlStore, target_db: str) -> None:
    """Where some tables are known, the others are taken to be new ones that nobody asked for."""
    tables, saved = versions_of(400), threading.Event()
    seen: set[int] = set()

    def look() -> None:
        with ControlStore(target_db) as reader:
            while not saved.is_set():
                seen.add(len(reader.versions.of("p")))
            seen.add(len(reader.versions.of("p")))

    looking = threading.Thread(target=look)
    looking.start()
    store.versions.save_all("p", tables, token=1)
    saved.set()
    looking.join()
    assert seen <= {0, len(tables)}
    assert len(tables) in seen


def test_versions_of_a_replaced_capture_are_refused_as_a_whole(store: ControlStore) -> None:
    newer, *others = versions_of(3)
    store.versions.save("p", newer, token=2)
    with pytest.raises(Fenced):
        store.versions.save_all("p", [*others, newer], token=1)
    assert set(store.versions.of("p")) == {newer.table}
