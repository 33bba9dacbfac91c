"""What beat has done about the ledger: signed every minute, verified every night, and shown as metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.ledger import rekeying
from connectors.ledger.reader import LedgerReader
from tasks import audit
from tasks.configuration import configure, forget
from tasks.resources import close_resources
from tests.fixtures.fix_postgres import new_database
from tests.integration.ledger_rig import at, read
from tests.integration.ledger_tampering import Trail, superuser
from tests.integration.test_ledger_personal import ANN, PLAIN, customers, dump, insert
from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN
from worker_sync.core.codec import encode
from worker_sync.core.settings import parse
from worker_sync.exporter.ledger import LedgerWatch
from worker_sync.ledger.envelope import is_sealed
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.store import ControlStore
from worker_sync.store.dead_letters import Wanted
from worker_sync.store.health import Health
from worker_sync.store.pipelines import Status


@pytest.fixture
def trail(postgres: str, tmp_path: Path) -> Iterator[Trail]:
    """A ledger of 301 entries that nobody has signed, in a control store whose tasks this process runs."""
    (tmp_path / "anchor").mkdir()
    with new_database(postgres, "ledger") as url:
        with ControlStore(url) as store:
            store.migrate()
        found = Trail(url, tmp_path / "anchor")
        found.record(300)
        use(found)
        yield found
        close_resources()
        forget()


def use(trail: Trail, personal: Any = None, **ledger: Any) -> None:
    """Configure this process for the ledger of `trail`."""
    close_resources()
    document = {
        "control": trail.url,
        "broker": "redis://127.0.0.1:1/0",
        "databases": {"shop": {"url": "memory://shop"}},
        "audit": {"shop": {"tables": ["*"], **(personal or {})}},
        "ledger": {"origin": ORIGIN, "key": OLD.reveal(), "anchors": [str(trail.anchor)], **ledger},
    }
    configure(parse(document, where="test", folder=Path("/")))


def run(task: Any) -> None:
    task.apply(throw=False)


def health(trail: Trail) -> Health:
    with ControlStore(trail.url) as store:
        return next(found for found in store.health.all() if found.subject == audit.SUBJECT)


def test_what_is_scheduled_signs_anchors_and_verifies(trail: Trail) -> None:
    run(audit.checkpoint)
    run(audit.checkpoint)
    with LedgerReader(trail.url) as reader:
        (note,) = reader.notes()
    assert trail.place.names(ORIGIN) != []
    assert note.size == 302, "the entries, the trail's beginning, and the key that signs for the first time"
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (True, "")


def test_what_is_declared_personal_is_sealed_by_the_worker(trail: Trail) -> None:
    declared = {"public.customers": {"subject": "email", "columns": ["email", "name"]}}
    use(trail, personal={"personal_data": declared}, personal_key="a personal key of 32 or more characters")
    upto = trail.transactions + 1
    work = customers(upto, insert(ANN))
    audit.append.apply(args=("audit.shop", 0, str(work.after), str(work.upto), encode(work)))
    entry = read(trail.url)[-1]
    assert (entry["id"], is_sealed(entry["after"]["name"])) == (f"shop:{at(upto).commit}:1", True)
    assert entry["after"]["city"] == ANN[2]
    assert not [text for text in PLAIN if text in dump(trail.url)]


def test_a_worker_that_starts_with_a_removed_key_halts_its_trail_with_the_way_out(trail: Trail) -> None:
    old, new = "a personal key of 32 or more characters", "the next key of 32 characters, or even more"
    declared = {"public.customers": {"subject": "email", "columns": ["email", "name"]}}

    def append(key: str | None = None) -> None:
        if key is not None:
            # A worker that starts: with this key, and with no connection.
            use(trail, personal={"personal_data": declared}, personal_key=key)
        trail.transactions += 1
        work = customers(trail.transactions, insert(ANN))
        audit.append.apply(args=("audit.shop", 0, str(work.after), str(work.upto), encode(work)))

    append(old)
    rekeying.add(trail.url, PersonalKey(new), PersonalKey(old), "anna", "it")
    rekeying.remove(trail.url, PersonalKey(old).slot, PersonalKey(new), "anna")
    append()
    with ControlStore(trail.url) as store:
        assert store.pipelines.get("audit.shop").status is Status.RUNNING
        append(old)
        halted = store.pipelines.get("audit.shop")
        assert (halted.status, halted.reason) == (Status.HALTED, "preflight-failed")
        assert "ledger.personal_key was removed from this ledger" in halted.detail
        assert halted.recovery.endswith("then worker-sync resume audit.shop")
        assert not [text for text in (old, new) if text in f"{halted}"]
        store.pipelines.resume("audit.shop")
    trail.transactions -= 1
    append(new)
    assert [entry["kind"] for entry in read(trail.url)[-4:]] == [
        "personal-key-added", "personal-key-removed", "change", "change",
    ]  # fmt: skip


def test_entries_that_nobody_has_signed_yet_are_no_failure(trail: Trail) -> None:
    run(audit.checkpoint)
    trail.record(10)
    run(audit.verify)
    assert health(trail).ok is True


def test_entries_that_nobody_has_signed_for_long_are_a_failure(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    use(trail, anchors=[])
    run(audit.checkpoint)
    trail.record(10)
    run(audit.checkpoint)
    with superuser(trail.url) as connection:
        connection.execute("DELETE FROM worker_sync_ledger.checkpoints WHERE size = 312")
    # As if the quarter of an hour had passed.
    monkeypatch.setattr(audit, "SIGNED_WITHIN", timedelta())
    run(audit.verify)
    assert health(trail).ok is False
    assert "unsigned 10" in health(trail).detail


def test_an_altered_entry_is_what_the_health_of_the_ledger_says(trail: Trail) -> None:
    run(audit.checkpoint)
    with superuser(trail.url) as connection:
        connection.execute("UPDATE worker_sync_ledger.entries SET entry = entry || ' ' WHERE number = 7")
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (False, "altered 1")


def test_a_checkpoint_of_a_key_that_nobody_trusts_is_a_failure_until_it_is_trusted(trail: Trail) -> None:
    run(audit.checkpoint)
    trail.record(10)
    use(trail, key=NEW.reveal())
    run(audit.checkpoint)
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (False, "unsigned 2")
    use(trail, key=NEW.reveal(), trusted=[OLD.verifier_key])
    run(audit.verify)
    assert (health(trail).ok, health(trail).detail) == (True, "")


def test_a_ledger_that_contradicts_what_was_signed_is_not_signed_and_a_person_is_told(trail: Trail) -> None:
    run(audit.checkpoint)
    trail.record(10)
    with superuser(trail.url) as connection:
        connection.execute("UPDATE worker_sync_ledger.subtrees SET hash = decode(repeat('00', 32), 'hex')")
    run(audit.checkpoint)
    with LedgerReader(trail.url) as reader, ControlStore(trail.url) as store:
        assert len(list(reader.notes())) == 1
        (letter,) = store.dead_letters.find(Wanted())
    assert letter.task == "audit.checkpoint"
    assert "worker-sync audit verify" in letter.error


def test_the_figures_of_a_scrape(trail: Trail) -> None:
    watch = LedgerWatch(trail.url)
    first = watch()
    run(audit.checkpoint)
    trail.record(10)
    second = watch()
    watch.close()
    assert first is not None
    assert second is not None
    assert (first.figures.entries, first.figures.signed, first.write_tps) == (301, None, None)
    assert (second.figures.entries, second.figures.signed) == (312, 302)
    assert second.write_tps is not None
    assert second.write_tps > 0
    assert second.figures.signed_age_s is not None
    assert 0 <= second.figures.signed_age_s < 60
    assert second.figures.bytes > 100_000
