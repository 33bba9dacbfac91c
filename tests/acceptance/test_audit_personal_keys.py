"""`worker-sync audit personal-keys`: another key takes over, as people and scripts do it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from connectors.ledger.sink import LedgerSink
from tasks.ledger import open_ledger
from tests.acceptance.test_audit_commands import audit, lines
from tests.acceptance.test_audit_personal import TABLE, export, url, workplace
from tests.fixtures.eventually import eventually
from tests.fixtures.program import COMMAND, Ended, environment, worker_sync, write_config
from tests.integration.test_ledger_key_slots import SLOTS, waiting
from tests.integration.test_ledger_personal import ANN, KEY, SECRET, customers, dump, insert, master, rows
from worker_sync.core.errors import Halt
from worker_sync.core.settings import load
from worker_sync.ledger.key_slot import PersonalKey

__all__ = ["workplace"]

pytestmark = pytest.mark.slow

NEXT_SECRET = "the+next/key=of 32 characters, or even more"
NEXT = PersonalKey(NEXT_SECRET)
VARIABLE = "NEXT_PERSONAL_KEY"
BY = ("--by", "anna")


def keys(workplace: Path, *arguments: str, **more: str) -> Ended:
    """A command, whose output has no secret, whatever became of it."""
    config = workplace / "worker-sync.yaml"
    done = worker_sync("audit", "personal-keys", *arguments, config=config, more=more or None)
    secrets = {SECRET, NEXT_SECRET, *more.values()}
    assert not [text for text in secrets if text in done.out + done.err]
    return done


def add(workplace: Path, *arguments: str) -> Ended:
    return keys(workplace, "add", "--env", VARIABLE, *BY, *arguments, **{VARIABLE: NEXT_SECRET})


def use(workplace: Path, key: str) -> None:
    """Deploy a configuration with another key."""
    path = workplace / "worker-sync.yaml"
    document = yaml.safe_load(path.read_text())
    document["ledger"]["personal_key"] = key
    write_config(path, document)


def sink(workplace: Path) -> LedgerSink:
    return open_ledger(load(workplace / "worker-sync.yaml"))


def names(workplace: Path) -> list[Any]:
    found = lines(audit(workplace, "log", *TABLE, "--subject", ANN[0], "--json", "--reveal", "--kind", "change"))
    return [entry["after"]["name"] for entry in found]


def test_a_key_takes_over_while_everything_goes_on(workplace: Path) -> None:
    old = sink(workplace)
    with old:
        assert [slot["slot"] for slot in keys(workplace, "list", "--json").json["slots"]] == [KEY.slot]
        added = add(workplace)
        assert (added.code, f"key slot {NEXT.slot} was added" in added.out) == (0, True), added
        old.apply(customers(4, insert(ANN)))
        use(workplace, NEXT_SECRET)
        assert names(workplace) == ["Ann Oldname", "Ann Newname", "Ann Oldname"]
        with sink(workplace) as new:
            new.apply(customers(5, insert(ANN)))
            dry = keys(workplace, "remove", KEY.slot, "--dry-run")
            assert (dry.code, "would be removed" in dry.out) == (0, True), dry
            removed = keys(workplace, "remove", KEY.slot, "--by", "bob")
            assert (removed.code, f"these stay: {NEXT.slot}" in removed.out) == (0, True), removed
            old.apply(customers(6, insert(ANN)))
            new.apply(customers(7, insert(ANN)))
        old.close()
        with pytest.raises(Halt, match="was removed from this ledger"):
            old.apply(customers(8, insert(ANN)))
    assert len(names(workplace)) == 6
    told = audit(workplace, "log", "--kind", "personal-key-removed")
    assert f"personal-key-removed  {KEY.slot} bob" in told.out
    assert audit(workplace, "checkpoint").code == 0
    export(workplace, "export")
    assert audit(workplace, "verify").code == 0
    use(workplace, SECRET)
    refused = audit(workplace, "log", *TABLE, "--subject", ANN[0])
    assert (refused.code, f"its key slot {KEY.slot} is gone since 20" in refused.err) == (2, True), refused
    assert "audit personal-keys list" in refused.err


def test_the_list_says_which_are_there_and_which_is_configured(workplace: Path) -> None:
    assert keys(workplace, "list").out.splitlines()[1].split()[::3] == [KEY.slot, "yes"]
    (workplace / "next.key").write_text(f"{NEXT_SECRET}\n")
    assert keys(workplace, "add", "--file", str(workplace / "next.key"), *BY).code == 0
    keys(workplace, "remove", KEY.slot, "--force", *BY)
    listed = keys(workplace, "list")
    assert [line.split()[-1] for line in listed.out.splitlines()] == ["configured", "yes", "no"]
    assert "ledger.personal_key opens none of them" in listed.err
    found = keys(workplace, "list", "--json").json
    assert (found["configured"], [slot["slot"] for slot in found["slots"]]) == (KEY.slot, [KEY.slot, NEXT.slot])
    assert [slot["removed_at"] is None for slot in found["slots"]] == [False, True]


def test_adding_one_that_is_there_says_so_and_changes_nothing(workplace: Path) -> None:
    first = add(workplace, "--json")
    assert (first.code, first.json) == (0, {"slot": NEXT.slot, "added": True, "entry": 5})
    before = dump(url(workplace))
    assert add(workplace, "--json").json == {"slot": NEXT.slot, "added": False, "entry": None}
    assert "is there already: nothing was changed" in add(workplace).out
    assert dump(url(workplace)) == before


def test_a_key_that_was_forgotten_to_be_added_is_added_with_the_old_one(workplace: Path) -> None:
    use(workplace, NEXT_SECRET)
    refused = audit(workplace, "log", *TABLE, "--subject", ANN[0])
    assert (refused.code, f"its own would be {NEXT.slot}, there are: {KEY.slot}" in refused.err) == (2, True), refused
    assert add(workplace).code == 2
    done = keys(
        workplace, "add", "--env", VARIABLE, "--existing-env", "OLD", *BY, **{VARIABLE: NEXT_SECRET, "OLD": SECRET}
    )
    assert done.code == 0, done
    assert len(names(workplace)) == 2


def test_somebody_is_forgotten_with_either_key(workplace: Path) -> None:
    assert add(workplace).code == 0
    whom = (ANN[0], *TABLE)
    assert audit(workplace, "forget", *whom, "--request", "--by", "anna").code == 0
    use(workplace, NEXT_SECRET)
    assert audit(workplace, "forget", *whom, "--dry-run").out.startswith("2 changes hold")
    assert audit(workplace, "forget", "--approve", "6", "--by", "bob").code == 0
    for key in (SECRET, NEXT_SECRET):
        use(workplace, key)
        assert names(workplace) == [{"forgotten": True}] * 2


def test_what_would_lock_somebody_out_is_refused(workplace: Path) -> None:
    last = keys(workplace, "remove", KEY.slot, "--force", *BY)
    assert (last.code, "is the last one" in last.err) == (2, True), last
    assert add(workplace).code == 0
    for option in ("--dry-run", "--json"):
        own = keys(workplace, "remove", KEY.slot, option, *BY)
        assert (own.code, "is that of the key which this configuration uses" in own.err) == (2, True), own
    assert keys(workplace, "remove", "nosuch", *BY).code == 2
    done = keys(workplace, "remove", KEY.slot, "--json", "--force", *BY)
    assert done.json == {"slot": KEY.slot, "removed": True, "entry": 6, "stay": [NEXT.slot]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add"], "give the new key by --env NAME or --file FILE"),
        (["add", "--env", "A", "--file", "b"], "give the new key by --env NAME or --file FILE"),
        (["add", "--env", NEXT_SECRET], "--env is not the name of an environment variable"),
        (["add", "--env", f"UNSET:-{NEXT_SECRET}"], "--env is not the name of an environment variable"),
        (["add", "--env", "UNSET_VARIABLE"], "the environment variable that --env names is not set"),
        (["add", "--env", "SHORT"], "a key is UTF-8 of at least 32 characters"),
        (["add", "--file", "nowhere.key"], "the secret file nowhere.key can't be read"),
    ],
)
def test_a_new_key_comes_from_the_environment_or_a_file(tmp_path: Path, arguments: list[str], said: str) -> None:
    write_config(tmp_path / "worker-sync.yaml", {"control": "postgresql://nowhere.invalid/x"})
    done = keys(tmp_path, *arguments, *BY, SHORT="short")
    assert (done.code, said in done.err) == (2, True), done


def test_an_addition_that_is_killed_before_its_commit_never_was(workplace: Path) -> None:
    command = [*COMMAND, "audit", "--config", str(workplace / "worker-sync.yaml")]
    command += ["personal-keys", "add", "--env", VARIABLE, *BY]
    ledger = url(workplace)
    before = dump(ledger)
    with psycopg.connect(ledger) as connection:
        connection.execute("SELECT FROM worker_sync_ledger.head FOR UPDATE")
        process = subprocess.Popen(
            command, env=environment({VARIABLE: NEXT_SECRET}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # It has inserted the slot and waits for the head, to append the entry.
        eventually(waiting(ledger, 1), 60, "the addition waits for the head")
        process.kill()
        process.wait()
    eventually(waiting(ledger, 0), 60, "its session is gone")
    assert dump(ledger) == before
    assert add(workplace).code == 0
    assert [slot for slot, _, is_live in rows(ledger, SLOTS) if is_live] == sorted([KEY.slot, NEXT.slot])
    assert master(ledger, NEXT).reveal() == master(ledger).reveal()
