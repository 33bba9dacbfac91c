"""Personal data in `worker-sync audit`: found by a keyed index, revealed when asked for, nowhere in an export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.ledger import open_ledger
from tests.acceptance.test_audit_commands import audit, lines
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import write_config
from tests.integration.ledger_rig import fenced
from tests.integration.ledger_tampering import superuser
from tests.integration.test_ledger_personal import ANN, CUSTOMERS, PLAIN, SECRET, customers, dump, insert
from tests.unit.ledger.independent import run_independent
from worker_sync.core.change import Change, Op
from worker_sync.core.settings import load

pytestmark = pytest.mark.slow

BOB = ("bob@example.org", "Bob", "Basel")
TABLE = ("--table", "public.customers")


@pytest.fixture
def workplace(postgres: str, tmp_path: Path) -> Iterator[Path]:
    """A directory with a configuration, keys, an anchor and a ledger with data of two people."""
    (tmp_path / "anchor").mkdir()
    (tmp_path / "state").mkdir()
    declared = {"subject": "email", "columns": ["email", "name"], "namespace": "customers"}
    with new_database(postgres, "control") as url:
        document = {
            "control": url,
            "databases": {"shop": {"url": "postgresql://h/a"}},
            "audit": {"shop": {"tables": ["public.*"], "personal_data": {"public.customers": declared}}},
            "state_dir": "state",
            "ledger": {"anchors": ["anchor"], "personal_key": SECRET},
        }
        write_config(tmp_path / "worker-sync.yaml", document)
        (tmp_path / "url").write_text(url)
        with open_ledger(load(tmp_path / "worker-sync.yaml")) as sink:
            sink.prepare()
            fenced(sink)
            sink.apply(customers(1, insert(ANN), insert(BOB)))
            renamed = (ANN[0], "Ann Newname", ANN[2])
            sink.apply(customers(3, [Change(1, Op.UPDATE, 1, None, ANN, renamed)]))
        assert audit(tmp_path, "keys", "new", str(tmp_path / "state" / "ledger.key")).code == 0
        assert audit(tmp_path, "checkpoint").code == 0
        (tmp_path / "keys").write_text(audit(tmp_path, "keys").out)
        yield tmp_path


def url(workplace: Path) -> str:
    return (workplace / "url").read_text()


def export(workplace: Path, name: str) -> bytes:
    """All bytes of an export that both verifiers find intact."""
    directory = workplace / name
    assert audit(workplace, "export", str(directory)).code == 0
    verified = audit(workplace, "verify", "--offline", str(directory), "--keys", str(workplace / "keys"))
    assert (verified.code, "Nothing was altered" in verified.out) == (0, True), verified
    assert run_independent(directory, [(workplace / "keys").read_text().strip()])[0] == 0
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_entries_of_a_subject_are_found_and_revealed_when_asked_for(workplace: Path) -> None:
    found = lines(audit(workplace, "log", *TABLE, "--subject", ANN[0], "--json"))
    assert [entry["number"] for entry in found] == ["1", "3"]
    assert not [text for text in PLAIN if text in json.dumps(found)]
    shown = lines(audit(workplace, "log", *TABLE, "--subject", ANN[0], "--json", "--reveal"))
    assert [entry["after"]["name"] for entry in shown] == ["Ann Oldname", "Ann Newname"]
    assert [entry["key"] for entry in shown] == [{"email": ANN[0]}] * 2
    assert lines(audit(workplace, "log", *TABLE, "--subject", "nobody", "--json")) == []


def test_the_history_of_a_row_is_found_by_its_personal_key(workplace: Path) -> None:
    sealed = audit(workplace, "log", *TABLE, "--row", ANN[0])
    assert "~ name: encrypted -> encrypted" in sealed.out
    assert "~ email" not in sealed.out
    shown = audit(workplace, "log", *TABLE, "--row", ANN[0], "--reveal")
    assert "~ name: Ann Oldname -> Ann Newname" in shown.out
    by_name = lines(audit(workplace, "log", *TABLE, "--key", json.dumps({"email": ANN[0]}), "--json"))
    assert [entry["number"] for entry in by_name] == ["1", "3"]


def test_neither_an_export_nor_the_database_has_plain_text(workplace: Path) -> None:
    exported, stored = export(workplace, "export").decode(errors="replace"), dump(url(workplace))
    for text in (*PLAIN, "Newname", SECRET):
        assert text not in exported
        assert text not in stored
    assert "Bern" in exported  # not declared


def test_values_that_changed_places_are_found(workplace: Path) -> None:
    with superuser(url(workplace)) as connection:
        query = "SELECT entry FROM worker_sync_ledger.entries WHERE number IN (1, 3) ORDER BY number"
        one, other = [json.loads(text) for (text,) in connection.execute(query)]
        swapped = one["after"]["name"]["encrypted"], other["before"]["name"]["encrypted"]
        for number, old, new in ((1, swapped[0], swapped[1]), (3, swapped[1], swapped[0])):
            connection.execute(
                "UPDATE worker_sync_ledger.entries SET entry = replace(entry, %s, %s) WHERE number = %s",
                (old, new, number),
            )
    done = audit(workplace, "log", *TABLE, "--subject", ANN[0], "--json", "--reveal")
    assert done.code == 10
    assert json.loads(done.out.splitlines()[0])["after"]["name"] == {"unreadable": True}
    assert audit(workplace, "verify").code == 10


def test_two_people_have_somebody_forgotten(workplace: Path) -> None:
    whom = (ANN[0], *TABLE)
    assert audit(workplace, "forget", *whom, "--dry-run").out.startswith("2 changes hold")
    asked = audit(workplace, "forget", *whom, "--request", "--by", "anna")
    assert (asked.code, "audit forget --approve 5" in asked.out) == (0, True), asked
    assert audit(workplace, "forget", "--approve", "5", "--by", "anna").code == 2
    assert audit(workplace, "forget", "--approve", "5", "--by", "bob").code == 0
    assert audit(workplace, "checkpoint").code == 0
    export(workplace, "forgotten")
    shown = lines(audit(workplace, "log", *TABLE, "--subject", ANN[0], "--json", "--reveal", "--kind", "change"))
    assert [entry["after"]["name"] for entry in shown] == [{"forgotten": True}] * 2
    assert audit(workplace, "verify").code == 0


def test_what_is_missing_is_said(workplace: Path) -> None:
    assert audit(workplace, "log", "--subject", "x").code == 2
    undeclared = audit(workplace, "log", "--table", "public.orders", "--subject", "x")
    assert (undeclared.code, "declares nothing of public.orders" in undeclared.err) == (2, True)


def test_the_table_of_the_tests_is_the_declared_one() -> None:
    assert str(CUSTOMERS.table) == TABLE[1]
