"""`worker-sync audit log` of entries that know the database's session: shown and found beside what applications say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.fix_postgres import new_database
from tests.fixtures.program import Ended, simple_config, worker_sync, write_config
from tests.integration.ledger_rig import at, batch, fenced, inserts, opened
from worker_sync.core.change import Section, Session, TransactionInfo

pytestmark = pytest.mark.slow

WEB = Session("shop", "clerk", "shop-web 2.1", "10.0.0.7")
#: A name that needs escapes, in JSON and for people.
ODD = Session('o"ß\\', None, None, None)
#: Applications that say what looks like the session of somebody else.
FORGED = json.dumps({"session": {"session_user": "postgres"}, "session_user": "postgres", "actor": "shop"})


@pytest.fixture(scope="module")
def workplace(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four transactions: of WEB for an actor, of WEB with a forged context, of ODD, and of one read from a log."""
    directory = tmp_path_factory.mktemp("sessions")
    with new_database(postgres, "control") as url:
        document = simple_config("postgresql://h/a", "postgresql://h/b", control=url) | {"state_dir": "state"}
        write_config(directory / "worker-sync.yaml", document)
        sink = opened(url)
        sink.prepare()
        fenced(sink)
        told = [('{"actor": "anna"}', WEB), (FORGED, WEB), ("", ODD), (FORGED, None)]
        groups = [inserts(number, 2) for number in range(1, len(told) + 1)]
        sections = [
            Section(TransactionInfo(at(number).commit, 1_769_860_800_000_000, str(number)), 2, context, session)
            for number, (context, session) in enumerate(told, 1)
        ]
        sink.apply(batch(1, *groups, sections=sections))
        sink.close()
        yield directory


def log(workplace: Path, *arguments: str) -> Ended:
    done = worker_sync("audit", "log", *arguments, config=workplace / "worker-sync.yaml")
    assert done.code == 0, done
    return done


def transactions(workplace: Path, *arguments: str) -> list[str]:
    entries = [json.loads(line) for line in log(workplace, "--json", *arguments).out.splitlines()]
    return [entry["transaction"]["id"] for entry in entries if entry["kind"] == "change"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--session-user", "shop"], ["1", "1", "2", "2"]),
        (["--session-user", "shop", "--limit", "3"], ["1", "1", "2"]),
        (["--session-user", "shop", "--newest-first", "--limit", "3"], ["2", "2", "1"]),
        (["--session-user", "shop", "--actor", "anna"], ["1", "1"]),
        (["--session-user", 'o"ß\\'], ["3", "3"]),
        # What an application says of sessions, and of actors, is its own.
        (["--session-user", "postgres"], []),
        (["--session-user", "postgres", "--limit", "1"], []),
        (["--session-user", "anna"], []),
        (["--actor", "shop"], ["2", "2", "4", "4"]),
        (["--session-user", "sho"], []),
        (["--session-user", ""], []),
    ],
)
def test_a_user_of_the_database_is_found_and_only_by_what_the_database_said(
    options: list[str], found: list[str], workplace: Path
) -> None:
    assert transactions(workplace, *options) == found


def test_people_see_the_session_behind_the_actor(workplace: Path) -> None:
    lines = [line for line in log(workplace).out.splitlines() if "insert" in line]
    assert "by anna  session_user shop" in lines[0]
    assert "by shop  session_user shop" in lines[2]
    assert lines[4].endswith('session_user "o\\"\\u00df\\\\"') or lines[4].endswith('session_user o"ß\\')
    assert "session_user" not in lines[6]


def test_a_history_tells_all_of_the_session(workplace: Path) -> None:
    def told(key: str) -> str:
        return log(workplace, "--table", "public.orders", "--row", key).out.splitlines()[0]

    facts = 'session_user shop, role clerk, application_name "shop-web 2.1", client_addr 10.0.0.7, transaction 1'
    assert f"insert by anna, {facts}".replace('"', "") in told("1000001").replace('"', "")
    assert "role" not in told("3000001")
    assert told("4000001").endswith("insert by shop, transaction 4")


def test_json_and_csv_have_the_session_apart_from_the_context(workplace: Path) -> None:
    names = ("session_user", "role", "application_name", "client_addr")
    web, odd = ("shop", "clerk", "shop-web 2.1", "10.0.0.7"), ('o"ß\\', None, None, None)
    lines = log(workplace, "--json", "--operation", "insert").out.splitlines()
    entries: list[Any] = [json.loads(line) for line in lines]
    told = [dict(zip(names, facts, strict=True)) for facts in (web, odd)]
    assert [entry.get("session") for entry in entries[2:8:2]] == [*told, None]
    assert entries[2]["context"] == entries[6]["context"] == json.loads(FORGED)

    text = log(workplace, "--csv", "--operation", "insert").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0].endswith("context,host,id,session_user,role,application_name,client_addr")
    assert [tuple(row[name] or None for name in names) for row in rows[2:8:2]] == [web, odd, (None,) * 4]
