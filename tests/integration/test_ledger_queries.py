"""What is looked for in a large ledger is found by an index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from connectors.ledger.filters import Wanted
from connectors.ledger.reader import LedgerReader
from tests.fixtures.fix_postgres import new_database
from tests.integration.ledger_rig import opened

pytestmark = pytest.mark.slow

FEW = 200_000
#: So many as a ledger has after years.
MANY = pytest.param(50_000_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)])
AT_ONCE = 1_000_000
#: Only what is searched matters to a plan.
FILL = """
INSERT INTO worker_sync_ledger.entries
       (number, recorded_at, kind, source, table_name, operation, key, transaction, committed_at, actor, leaf, entry)
SELECT n, now(), CASE WHEN n %% 10000 = 0 THEN 'gap' ELSE 'change' END, 'shop', 'public.t' || n %% 7,
       CASE WHEN n %% 3 = 0 THEN 'update' ELSE 'insert' END, '["' || n %% 20000 || '"]', (n / 20)::text,
       timestamptz '2026-01-01' + n * interval '1 second', 'user ' || n %% 500, sha256(n::text::bytea),
       '{"number":"' || n || '"}'
FROM generate_series(%s, %s) n
"""
#: Some people have much, some little.
FILL_SUBJECTS = """
INSERT INTO worker_sync_ledger.subject_entries (subject, number, generation)
SELECT CASE WHEN n %% 2 = 0 THEN 's' || n %% 500 ELSE 'big' END, n, 1 FROM generate_series(%s, %s) n
"""
DAY = [datetime(2026, 1, 2, hour, tzinfo=UTC) for hour in (10, 11)]


@pytest.fixture(scope="module", params=[FEW, MANY])
def rows(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def reader(postgres: str, rows: int) -> Iterator[LedgerReader]:
    with new_database(postgres, "ledger") as url:
        sink = opened(url)
        sink.prepare()
        sink.close()
        with psycopg.connect(url, autocommit=True) as connection:
            for first in range(0, rows, AT_ONCE):
                part = [first, min(first + AT_ONCE, rows) - 1]
                connection.execute(FILL.encode(), part)
                connection.execute(FILL_SUBJECTS.encode(), part)
            connection.execute("ANALYZE worker_sync_ledger.entries, worker_sync_ledger.subject_entries")
        with LedgerReader(url) as found:
            yield found


def full_partition(reader: LedgerReader) -> str:
    """The partition that has the rows, the one of the older month."""
    scan = next(node for node in nodes(reader.explain(Wanted(first=0, limit=1))) if "Relation Name" in node)
    return str(scan["Relation Name"])


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


WANTED: dict[str, tuple[Wanted, str]] = {
    "everything": (Wanted(limit=100), "pkey"),
    "the newest": (Wanted(newest_first=True, limit=100), "pkey"),
    "a range of numbers": (Wanted(first=1000, end=2000, limit=100), "pkey"),
    "a row": (Wanted(source="shop", table="public.t1", keys=['["1"]'], limit=100), "source_table_name_key"),
    "an actor": (Wanted(actor="user 7", limit=100), "actor"),
    "an actor, the newest first": (Wanted(actor="user 7", newest_first=True, limit=100), "actor"),
    "a subject": (Wanted(source="shop", subject="s8", limit=100), "subject_entries_pkey"),
    "a subject of many entries": (Wanted(source="shop", subject="big", limit=100), "subject_entries_pkey"),
    "a transaction": (Wanted(transaction="77", limit=100), "transaction"),
    "times of commits": (Wanted(since=DAY[0], until=DAY[1], limit=5000), "committed_at"),
    "gaps": (Wanted(kind="gap", limit=100), "kind"),
    "changes": (Wanted(kind="change", limit=100), "pkey"),
    "a table": (Wanted(source="shop", table="public.t1", limit=100), ""),
    "an operation": (Wanted(operation="update", limit=100), "pkey"),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_filter_is_answered_by_an_index(name: str, reader: LedgerReader) -> None:
    wanted, index = WANTED[name]
    plan = list(nodes(reader.explain(wanted)))
    # The partition of the next month is empty: its one page is read as it is.
    scanned = [node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"]
    assert len(scanned) <= 1, plan
    assert full_partition(reader) not in scanned, plan
    assert any(index in node.get("Index Name", "") for node in plan), plan


@pytest.mark.parametrize("name", WANTED)
def test_a_page_is_there_at_once(name: str, reader: LedgerReader) -> None:
    begun = time.monotonic()
    list(reader.find(WANTED[name][0]))
    assert time.monotonic() - begun < 5


def test_pages_follow_one_another(reader: LedgerReader, rows: int) -> None:
    found = [number for number, _ in reader.find(Wanted(actor="user 7", limit=10_000))]
    assert found == list(range(7, rows, 500))[:10_000]
    backwards = [number for number, _ in reader.find(Wanted(table="public.t0", newest_first=True, limit=2500))]
    assert backwards == list(range((rows - 1) // 7 * 7, -1, -7))[:2500]
