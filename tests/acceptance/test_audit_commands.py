"""`worker-sync audit` as people and scripts meet it."""

from __future__ import annotations

import csv
import io
import json
import stat
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import Ended, simple_config, worker_sync, write_config
from tests.integration.ledger_tampering import Trail, entries, put, superuser
from tests.unit.ledger.independent import run_independent
from worker_sync.ledger.merkle import leaf_hash
from worker_sync.ledger.note import Verifier
from worker_sync.ledger.proofs import verify_inclusion

pytestmark = pytest.mark.slow

ORIGIN = "worker-sync/ledger"
SIZE = 302


@pytest.fixture(scope="module")
def workplace(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a configuration, a key, an anchor and a ledger of 300 changes that is signed."""
    directory = tmp_path_factory.mktemp("audit")
    (directory / "anchor").mkdir()
    with new_database(postgres, "control") as url:
        document = simple_config("postgresql://h/a", "postgresql://h/b", control=url)
        document |= {"state_dir": "state", "ledger": {"anchors": ["anchor"]}}
        write_config(directory / "worker-sync.yaml", document)
        (directory / "state").mkdir()
        Trail(url, directory / "anchor").record(300)
        (directory / "url").write_text(url)
        assert audit(directory, "keys", "new", str(directory / "state" / "ledger.key")).code == 0
        assert audit(directory, "checkpoint").code == 0
        (directory / "keys").write_text(audit(directory, "keys").out)
        yield directory


def audit(workplace: Path, *arguments: str) -> Ended:
    return worker_sync("audit", *arguments, config=workplace / "worker-sync.yaml")


def lines(done: Ended) -> list[Any]:
    assert done.code == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def test_entries_are_listed_one_a_line(workplace: Path) -> None:
    done = audit(workplace, "log", "--table", "public.orders", "--first", "10", "--limit", "3")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert all(word in done.out.splitlines()[0] for word in ("#10 ", "shop public.orders", "insert", "id=", "by anna"))
    assert "--limit" in done.err


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--limit", "0"], SIZE),
        (["--actor", "anna", "--limit", "0"], 300),
        (["--actor", "nobody"], 0),
        (["--kind", "key"], 1),
        (["--kind", "begin"], 1),
        (["--operation", "insert", "--limit", "0"], 300),
        (["--operation", "delete"], 0),
        (["--transaction", "2", "--limit", "0"], 50),
        (["--since", "2026-01-01", "--until", "2026-12-31", "--limit", "0"], 300),
        (["--until", "2026-01-01"], 0),
        (["--source", "shop", "--table", "public.orders", "--key", "1000001"], 1),
        (["--key", '["1000001"]'], 1),
        (["--key", '{"id": 1000001}'], 1),
        (["--first", "100", "--end", "110"], 10),
    ],
)
def test_filters_choose_entries(options: list[str], count: int, workplace: Path) -> None:
    assert len(lines(audit(workplace, "log", "--json", *options))) == count


def test_the_newest_come_first_when_asked_for(workplace: Path) -> None:
    found = lines(audit(workplace, "log", "--json", "--newest-first", "--limit", "2"))
    assert [entry["number"] for entry in found] == ["301", "300"]


def test_csv_has_all_columns(workplace: Path) -> None:
    done = audit(workplace, "log", "--csv", "--kind", "change", "--limit", "5")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 5
    assert json.loads(rows[0]["after"])["state"] == "new"


def test_a_row_has_a_history(workplace: Path) -> None:
    done = audit(workplace, "log", "--table", "public.orders", "--row", "1000001")
    assert done.code == 0
    assert "insert by anna" in done.out
    assert "+ state: new" in done.out
    assert audit(workplace, "log", "--row", "1").code == 2


def test_an_unaltered_ledger_verifies(workplace: Path) -> None:
    done = audit(workplace, "verify")
    assert (done.code, "Nothing was altered" in done.out) == (0, True), done
    report = audit(workplace, "verify", "--json").json
    # The checkpoint, and the same one from the anchor of the configuration.
    assert (report["intact"], len(report["checkpoints"])) == (SIZE, 2)
    assert audit(workplace, "verify", "--from", str(SIZE)).code == 0
    assert audit(workplace, "verify", "--from", "7").code == 2


def test_an_export_verifies_without_a_database_here_and_by_the_independent_verifier(
    workplace: Path, tmp_path: Path
) -> None:
    export, keys = tmp_path / "export", str(workplace / "keys")
    assert audit(workplace, "export", str(export)).code == 0
    note = next((workplace / "anchor").rglob("*.note"))
    done = worker_sync("audit", "verify", "--offline", str(export), "--keys", keys, "--anchor", str(note))
    assert done.code == 0, done
    code, kinds, intact = run_independent(export, [(workplace / "keys").read_text().strip()], [note.read_text()])
    assert (code, kinds, intact) == (0, set(), SIZE)
    assert audit(workplace, "export", str(export)).code == 2

    part = tmp_path / "part"
    assert "--range 100 200" in audit(workplace, "export", str(part), "--first", "100", "--end", "200").out
    assert worker_sync("audit", "verify", "--offline", str(part), "--keys", keys, "--range", "100", "200").code == 0
    assert worker_sync("audit", "verify", "--offline", str(part), "--keys", keys).code == 11


def test_an_entry_is_proven_to_who_has_the_key(workplace: Path) -> None:
    assert "Entry 17 is in the tree of 302 entries" in audit(workplace, "prove", "17").out
    proof = audit(workplace, "prove", "17", "--json").json
    hashes = [b64decode(hash_) for hash_ in proof["proof"]]
    leaf = leaf_hash(proof["entry"].encode())
    assert verify_inclusion(17, proof["size"], leaf, hashes, b64decode(proof["root"]))
    assert audit(workplace, "prove", "--consistency", "100", "302").code == 0
    assert audit(workplace, "prove", "9999").code == 2
    assert audit(workplace, "prove").code == 2


def test_nothing_is_signed_twice_unless_asked_for(workplace: Path) -> None:
    assert audit(workplace, "checkpoint", "--json").json["new"] is False
    assert audit(workplace, "checkpoint", "--json", "--force").json["new"] is True


def test_keys_are_for_their_owner_alone_and_come_and_go(workplace: Path, tmp_path: Path) -> None:
    path = tmp_path / "next.key"
    made = audit(workplace, "keys", "new", str(path), "--name", "next")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Verifier.parse(made.out.strip()).name == "next"
    assert audit(workplace, "keys", "new", str(path)).code == 2
    own = audit(workplace, "keys").out.strip()
    assert audit(workplace, "keys", "retire", own).code == 2
    assert audit(workplace, "keys", "retire", made.out.strip()).code == 2
    assert [key["key"] for key in audit(workplace, "keys", "--json").json["registered"]] == [own]


def test_a_configuration_without_a_key_says_what_to_do(workplace: Path, tmp_path: Path) -> None:
    document = simple_config("postgresql://h/a", "postgresql://h/b", control=(workplace / "url").read_text())
    config = write_config(tmp_path / "worker-sync.yaml", document)
    done = worker_sync("audit", "checkpoint", config=config)
    assert (done.code, "worker-sync audit keys new" in done.err) == (2, True), done


def test_an_anchor_that_is_away_leaves_the_checkpoint_standing(workplace: Path, tmp_path: Path) -> None:
    anchor, away = workplace / "anchor", tmp_path / "away"
    anchor.rename(away)
    try:
        done = audit(workplace, "checkpoint", "--force")
        assert (done.code, "no directory" in done.err) == (3, True), done
    finally:
        away.rename(anchor)
    assert audit(workplace, "checkpoint").code == 0


def test_an_altered_entry_ends_verification_with_its_exit_code(workplace: Path, tmp_path: Path) -> None:
    url = (workplace / "url").read_text()
    with superuser(url) as connection:
        there = entries(connection)[200]
        put(connection, 200, there | {"actor": "emma"}, leaf=False)
    done = audit(workplace, "verify")
    assert (done.code, "altered   200:" in done.out) == (10, True), done
    assert audit(workplace, "export", str(tmp_path / "export")).code == 0
    keys = str(workplace / "keys")
    assert worker_sync("audit", "verify", "--offline", str(tmp_path / "export"), "--keys", keys).code == 10
    with superuser(url) as connection:
        put(connection, 200, there, leaf=False)
    assert audit(workplace, "verify").code == 0


def test_entries_may_wait_for_their_checkpoint_and_not_for_long(workplace: Path) -> None:
    Trail((workplace / "url").read_text(), workplace / "anchor", transactions=6).record(5)
    done = audit(workplace, "verify")
    assert (done.code, "pending: 5" in done.out, "Nothing was altered" in done.out) == (0, True, True), done
    report = audit(workplace, "verify", "--signed-within", "0s", "--json")
    assert (report.code, report.json["counts"]) == (15, {"unsigned": 5})
    assert audit(workplace, "checkpoint").code == 0
    assert audit(workplace, "verify", "--signed-within", "0s").code == 0
