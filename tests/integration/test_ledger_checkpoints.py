"""Only a tree that begins with all that was signed before is signed, and each checkpoint reaches every anchor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ledger import anchors, registry
from connectors.ledger.anchors import LedgerForked
from connectors.ledger.checkpoints import AnchorFailed, make_checkpoint
from connectors.ledger.reader import LedgerReader
from tests.fixtures.fix_postgres import new_database
from tests.integration.ledger_tampering import Trail, edited_all, entries, superuser
from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN
from worker_sync.core.errors import ConfigError, Transient

pytestmark = pytest.mark.slow


@pytest.fixture
def trail(postgres: str, tmp_path: Path) -> Iterator[Trail]:
    """A ledger of 302 entries, signed and anchored."""
    (tmp_path / "anchor").mkdir()
    with new_database(postgres, "ledger") as url:
        found = Trail(url, tmp_path / "anchor")
        found.record(300)
        found.sign()
        yield found


def notes(trail: Trail) -> list[str]:
    with LedgerReader(trail.url) as reader:
        return [stored.note for stored in reader.notes()]


def test_a_tree_that_did_not_grow_is_not_signed_again(trail: Trail) -> None:
    assert trail.sign().is_new is False
    assert len(notes(trail)) == 1
    assert trail.sign(force=True).is_new is True
    assert len(notes(trail)) == 2
    # An anchor keeps the first note of a tree.
    assert len(trail.place.names(ORIGIN)) == 1


def test_a_rewritten_ledger_is_not_signed(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        edited_all(connection)
    trail.record(10)
    with pytest.raises(LedgerForked, match="not the beginning"):
        trail.sign()
    assert len(notes(trail)) == 1


def test_a_rewritten_ledger_without_its_checkpoints_is_not_signed_for_the_anchor(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        edited_all(connection)
        connection.execute("DELETE FROM worker_sync_ledger.checkpoints")
    with pytest.raises(LedgerForked, match=r"\.note: its tree of \d+ entries is not the beginning"):
        trail.sign()
    assert notes(trail) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE worker_sync_ledger.head SET roots = sha256(roots) || substr(roots, 33)", "roots are not those"),
        ("DELETE FROM worker_sync_ledger.head", "head is not there"),
        ("DELETE FROM worker_sync_ledger.subtrees", "are stored"),
        ("UPDATE worker_sync_ledger.entries SET leaf = sha256(leaf) WHERE number = 301", "roots are not those"),
        ("UPDATE worker_sync_ledger.checkpoints SET note = 'x'", "is no checkpoint"),
    ],
)
def test_a_ledger_whose_hashes_do_not_fit_is_not_signed(statement: str, said: str, trail: Trail) -> None:
    with superuser(trail.url) as connection:
        connection.execute(statement.encode())
    with pytest.raises(LedgerForked, match=said):
        trail.sign(force=True)


def test_a_truncated_ledger_is_not_signed(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        edited_all(connection, size=200)
    with pytest.raises(LedgerForked, match="signs 302 entries and the ledger has 200"):
        trail.sign()


def test_an_anchor_that_is_away_gets_what_it_lacks_later(trail: Trail) -> None:
    away = trail.anchor.rename(trail.anchor.with_name("away"))
    for _ in range(3):
        trail.record(10)
        with pytest.raises(AnchorFailed, match="no directory") as failed:
            trail.sign()
        assert failed.value.made.is_new
        assert isinstance(failed.value, Transient)
    away.rename(trail.anchor)
    assert trail.sign().anchored == 3
    assert sorted(notes(trail)) == sorted(trail.place.notes(ORIGIN))
    assert [path for path in trail.anchor.rglob("*") if path.suffix != ".note" and path.is_file()] == []


def test_a_file_in_an_anchor_that_signs_another_tree_is_an_error_and_stays(trail: Trail) -> None:
    trail.record(10)
    name = f"{trail.size:020}-{OLD.key_id.hex()}.note"
    path = trail.anchor / anchors.folder_of(ORIGIN) / name
    path.write_text("something else")
    with pytest.raises(LedgerForked, match="is no checkpoint"):
        trail.sign()
    assert path.read_text() == "something else"


def test_keys_change_over_by_signing_together_and_the_ledger_says_so(trail: Trail) -> None:
    made = trail.sign(OLD, NEW)
    assert (made.is_new, made.keys_added) == (True, (NEW.verifier_key,))
    registry.retire(trail.url, OLD.verifier_key)
    assert trail.sign(NEW).is_new
    with LedgerReader(trail.url) as reader:
        known = [(key.verifier_key, key.retired is None) for key in registry.registered(reader)]
    assert known == [(OLD.verifier_key, False), (NEW.verifier_key, True)]
    assert trail.verified(OLD, NEW).exit_code == 0
    with pytest.raises(ConfigError, match="no active key"):
        registry.retire(trail.url, OLD.verifier_key)


def test_a_checkpoint_needs_a_key_and_a_ledger(trail: Trail, source_db: str) -> None:
    with pytest.raises(ConfigError, match="signing key"):
        make_checkpoint(trail.url, ORIGIN, [])
    with pytest.raises(ConfigError, match="worker-sync init"):
        make_checkpoint(source_db, ORIGIN, [OLD])
    with pytest.raises(LedgerForked, match="another log"):
        make_checkpoint(trail.url, "other", [OLD])


def test_entries_say_which_key_signs(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        kinds = [entry for entry in entries(connection) if entry["kind"] == "key"]
    assert [(entry["action"], entry["verifier_key"]) for entry in kinds] == [("added", OLD.verifier_key)]
