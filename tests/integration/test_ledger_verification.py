"""What a superuser does to the ledger's tables is found and named, where it stands and in an export of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tests.fixtures.fix_postgres import drop_database, new_database
from tests.fixtures.servers import with_database
from tests.integration.ledger_attacks import ATTACKS, LAST, SIZE, edited
from tests.integration.ledger_tampering import (
    Connection,
    Trail,
    entries,
    rewrite,
    superuser,
)
from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN, STRANGER, places, verifier
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.checkpoint import checkpoint, sign_checkpoint
from worker_sync.ledger.findings import Report
from worker_sync.ledger.note import Signer
from worker_sync.ledger.verify import Trust

pytestmark = pytest.mark.slow

SIGNED = 402


@pytest.fixture(scope="module")
def recorded(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    """A ledger that nobody has altered, signed at 402 and 702 entries."""
    anchor = tmp_path_factory.mktemp("anchor")
    with new_database(postgres, "ledger") as url:
        trail = Trail(url, anchor)
        trail.record(SIGNED - 2)
        trail.sign()
        trail.record(SIZE - SIGNED)
        trail.sign()
        assert trail.size == SIZE
        yield trail


@pytest.fixture
def trail(recorded: Trail, postgres: str) -> Iterator[Trail]:
    """A copy of it, to be altered."""
    name = f"copy_{uuid.uuid4().hex[:12]}"
    template = psycopg.conninfo.conninfo_to_dict(recorded.url)["dbname"]
    with psycopg.connect(postgres, autocommit=True) as connection:
        copied = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(str(template)))
        connection.execute(copied)
    try:
        yield Trail(with_database(postgres, name), recorded.anchor, transactions=recorded.transactions)
    finally:
        drop_database(postgres, name)


def replaced_notes(connection: Connection, size: int, root: bytes, signer: Signer, keep: str = "false") -> None:
    """One checkpoint in place of all but those to keep."""
    note = sign_checkpoint(checkpoint(ORIGIN, size, root), [signer])
    connection.execute(f"DELETE FROM worker_sync_ledger.checkpoints WHERE NOT ({keep})".encode())
    query = "INSERT INTO worker_sync_ledger.checkpoints (size, signed_at, note) VALUES (%s, now(), %s)"
    connection.execute(query, (size, note))


def kinds(report: Report) -> set[str]:
    return {str(kind) for kind in report.counts}


def test_an_unaltered_ledger_verifies_in_its_tables_and_in_an_export(trail: Trail, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with LedgerReader(trail.url) as reader:
        report = verify_tables(reader, Trust([verifier(OLD)]), 0, lambda *step: told.append(step))
    assert (report.exit_code, places(report), report.intact) == (0, [], SIZE)
    assert [signed.size for signed in report.checkpoints] == [SIGNED, SIZE]
    assert told[-1] == ("entries", SIZE, SIZE)
    assert trail.exported(tmp_path / "export").exit_code == 0


# -- entries


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_entries_is_named(name: str, trail: Trail, tmp_path: Path) -> None:
    attack = ATTACKS[name]
    with superuser(trail.url) as connection:
        attack.run(connection)
    report = trail.verified()
    assert (attack.found, attack.code) == ([p for p in places(report) if p[1] is not None], report.exit_code), report
    exported = trail.exported(tmp_path / "export")
    assert exported.exit_code == attack.exported_code, exported
    assert attack.exported <= kinds(exported)


FIELDS = ["number", "kind", "recorded_at", "id", "source", "table", "operation", "key", "before", "after", "changed",
          "transaction", "ordinal", "committed_at", "captured_at", "host", "actor", "context", "invented"]  # fmt: skip


def test_a_change_of_any_field_is_altered(trail: Trail, tmp_path: Path) -> None:
    with superuser(trail.url) as connection:
        assert set(entries(connection)[100]) | {"invented"} == set(FIELDS)
        for number, name in enumerate(FIELDS, 100):
            edited(number, leaf=False, **{name: "9999"})(connection)
    report = trail.verified()
    assert report.exit_code == 10
    assert [number for kind, first, last in places(report) for number in range(first or 0, (last or 0) + 1)] == list(
        range(100, 100 + len(FIELDS))
    ), report
    assert trail.exported(tmp_path / "export").exit_code == 10


SEARCHED = {
    "recorded_at": "recorded_at + interval '1 microsecond'", "kind": "'begin'", "source": "'other'",
    "table_name": "'public.others'", "operation": "'delete'", "key": "'[\"1\"]'", "transaction": "'9'",
    "committed_at": "NULL", "actor": "'emma'",
}  # fmt: skip


@pytest.mark.parametrize("column", SEARCHED)
def test_a_column_that_does_not_say_what_its_entry_says_is_altered(column: str, trail: Trail, tmp_path: Path) -> None:
    with superuser(trail.url) as connection:
        change = f"UPDATE worker_sync_ledger.entries SET {column} = {SEARCHED[column]} WHERE number = 300"
        connection.execute(change.encode())
    report = trail.verified()
    assert (places(report), report.exit_code) == ([("altered", 300, 300)], 10)
    assert column in report.findings[0].detail
    # What is searched is no part of an export.
    assert trail.exported(tmp_path / "export").exit_code == 0


# -- the tree, the head, checkpoints


CONSTRAINTS = ("head_roots_check", "head_check")
TREE_ATTACKS: dict[str, tuple[str, set[str], int]] = {
    "a subtree's root is changed": (r"UPDATE subtrees SET hash = '\x{0:064}' WHERE index = 1", {"altered"}, 10),
    "a subtree's root is deleted": ("DELETE FROM subtrees WHERE index = 1", {"missing"}, 11),
    "a subtree is invented": (r"INSERT INTO subtrees VALUES (8, 2, '\x{0:064}')", {"inserted"}, 12),
    "a level is invented": (r"INSERT INTO subtrees VALUES (9, 0, '\x{0:064}')", {"inserted"}, 12),
    "the head's roots are changed": ("UPDATE head SET roots = sha256(roots) || substr(roots, 33)", {"altered"}, 10),
    "the head is deleted": ("DELETE FROM head", {"altered"}, 10),
    "the head is set back": ("UPDATE head SET size = 512, roots = substr(roots, 1, 32)", {"altered"}, 10),
    "the newest checkpoint is deleted": ("DELETE FROM checkpoints WHERE size = 702", {"unsigned"}, 15),
    "a checkpoint is listed as another": ("UPDATE checkpoints SET size = 5 WHERE size = 402", {"altered"}, 10),
    "a note is damaged": ("UPDATE checkpoints SET note = replace(note, '402', '403')", {"unsigned"}, 15),
}


@pytest.mark.parametrize("name", TREE_ATTACKS)
def test_an_attack_on_the_tree_is_named(name: str, trail: Trail) -> None:
    statement, found, code = TREE_ATTACKS[name]
    with superuser(trail.url) as connection:
        connection.execute("SET search_path = worker_sync_ledger")
        connection.execute(
            "ALTER TABLE head DROP CONSTRAINT IF EXISTS head_roots_check, DROP CONSTRAINT IF EXISTS head_check"
        )
        connection.execute(statement.format(0).encode())
    report = trail.verified()
    assert (kinds(report), report.exit_code) == (found, code), report


def test_a_truncated_tail_is_missing_by_its_checkpoint_and_else_by_the_anchor(trail: Trail, tmp_path: Path) -> None:
    anchored = [path.read_text() for path in sorted(trail.anchor.rglob("*.note"))]
    with superuser(trail.url) as connection:
        rewrite(connection, lambda entry: entry, size=500)
    assert trail.verified().exit_code == 11
    assert trail.exported(tmp_path / "first").exit_code == 11
    with superuser(trail.url) as connection:
        tree = rewrite(connection, lambda entry: entry)
        replaced_notes(connection, tree.size, tree.root, OLD, keep="size <= 500")
    assert trail.verified().exit_code == 0
    report = trail.verified(anchors=anchored)
    assert (report.exit_code, ("missing", 500, LAST) in places(report)) == (11, True)
    exported = trail.exported(tmp_path / "export", anchors=anchored)
    assert (exported.exit_code, ("missing", 500, LAST) in places(exported)) == (11, True)


@pytest.mark.parametrize(("key", "code"), [(STRANGER, 15), (OLD, 0)], ids=["new", "stolen"])
def test_a_ledger_that_was_rewritten_is_found_by_its_key_or_by_the_anchor_alone(
    key: Any, code: int, trail: Trail, tmp_path: Path
) -> None:
    anchored = [path.read_text() for path in sorted(trail.anchor.rglob("*.note"))]
    with superuser(trail.url) as connection:
        tree = rewrite(connection, lambda entry: entry | {"actor": "emma"} if entry["kind"] == "change" else entry)
        replaced_notes(connection, tree.size, tree.root, key)
    assert trail.verified().exit_code == code, trail.verified()
    assert trail.exported(tmp_path / "export").exit_code == code
    report = trail.verified(anchors=anchored)
    assert (report.exit_code, "forked" in kinds(report)) == (14, True)
    assert trail.exported(tmp_path / "anchored", anchors=anchored).exit_code == 14


def test_two_signed_trees_of_one_size_are_forked(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        replaced_notes(connection, SIGNED, bytes(32), OLD, keep="true")
    assert trail.verified().exit_code == 14


# -- what is verified, and with whose keys


def test_verification_can_begin_at_a_checkpoint(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        edited(100, actor="emma")(connection)
    assert trail.verified().exit_code == 10
    report = trail.verified(first=SIGNED)
    assert (report.exit_code, report.first, report.intact) == (0, SIGNED, SIZE - SIGNED)
    with pytest.raises(ConfigError, match="no checkpoint of a trusted key is of 401 entries"):
        trail.verified(first=401)


def test_what_lies_before_the_beginning_has_to_be_what_was_signed(trail: Trail) -> None:
    with superuser(trail.url) as connection:
        connection.execute("UPDATE worker_sync_ledger.subtrees SET hash = sha256(hash) WHERE index = 0")
    assert trail.verified(first=SIGNED).exit_code in (10, 14)


def test_both_keys_of_a_change_over_verify(trail: Trail) -> None:
    trail.sign(OLD, NEW, anchored=False)
    assert trail.verified(OLD, NEW).exit_code == 0
    assert trail.verified(NEW).exit_code == 15
    made = json.loads(json.dumps([signed.signers for signed in trail.verified(OLD, NEW).checkpoints]))
    assert [len(signers) for signers in made] == [1, 1, 2]
