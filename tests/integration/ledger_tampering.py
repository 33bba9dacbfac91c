"""A ledger of many entries in a real database, and what a superuser who takes the triggers away does to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from connectors.ledger.anchors import Anchor
from connectors.ledger.checkpoints import Made, make_checkpoint
from connectors.ledger.directories import DirectoryAnchor
from connectors.ledger.exporting import export_ledger
from connectors.ledger.reader import LedgerReader
from connectors.ledger.verification import verify_tables
from tests.integration.ledger_rig import batch, fenced, inserts, opened
from tests.unit.ledger.independent import agreed
from tests.unit.ledger.ledgers import OLD, ORIGIN, verifier
from worker_sync.core.change import Change
from worker_sync.ledger.canonical import canonical
from worker_sync.ledger.findings import Report
from worker_sync.ledger.merkle import Frontier, leaf_hash
from worker_sync.ledger.note import Signer
from worker_sync.ledger.verify import Trust

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CONTEXT = '{"actor": "anna", "request": 7}'

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass
class Trail:
    """A ledger, and how it is signed and looked at."""

    url: str
    anchor: Path
    signers: list[Signer] = field(default_factory=lambda: [OLD])
    transactions: int = 0
    #: The anchor, where it is no directory.
    second_place: Anchor | None = None

    def record(self, entries: int, size: int = 50) -> None:
        """Record `entries` more changes in transactions of `size`."""
        sink = opened(self.url)
        try:
            sink.prepare()
            fenced(sink)
            while entries > 0:
                group: list[list[Change]] = []
                while entries > 0 and len(group) < 100:
                    group.append(inserts(self.transactions + len(group) + 1, min(size, entries)))
                    entries -= size
                sink.apply(batch(self.transactions + 1, *group, context=CONTEXT))
                self.transactions += len(group)
        finally:
            sink.close()

    def sign(self, *signers: Signer, force: bool = False, anchored: bool = True) -> Made:
        at = AT + timedelta(minutes=self.transactions)
        anchors = [self.place] if anchored else []
        return make_checkpoint(self.url, ORIGIN, signers or self.signers, anchors, force=force, at=at)

    @property
    def place(self) -> Anchor:
        return self.second_place or DirectoryAnchor(self.anchor)

    @property
    def size(self) -> int:
        with LedgerReader(self.url) as reader:
            head = reader.head()
        assert head is not None
        return head.size

    def verified(self, *signers: Signer, anchors: Sequence[str] = (), first: int = 0) -> Report:
        trust = Trust([verifier(one) for one in signers or self.signers], anchors)
        with LedgerReader(self.url) as reader:
            return verify_tables(reader, trust, first)

    def exported(self, directory: Path, *signers: Signer, anchors: Sequence[str] = ()) -> Report:
        """The report of an export, on which ours and the independent verifier agree."""
        with LedgerReader(self.url) as reader:
            export_ledger(reader, directory, ORIGIN, [verifier(one) for one in self.signers])
        return agreed(directory, *(signers or self.signers), anchors=anchors)


@contextmanager
def superuser(url: str) -> Iterator[Connection]:
    """A session in which no trigger of the ledger fires."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class "
            "WHERE relnamespace = 'worker_sync_ledger'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
        for (table,) in tables:
            name = sql.Identifier("worker_sync_ledger", table)
            connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER ALL").format(name))
        yield connection


def entries(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute("SELECT entry FROM worker_sync_ledger.entries ORDER BY number").fetchall()
    return [json.loads(entry) for (entry,) in rows]


def put(connection: Connection, number: int, entry: dict[str, Any], *, leaf: bool) -> None:
    """Change an entry's bytes, with its leaf hash or without."""
    data = canonical(entry)
    connection.execute(
        "UPDATE worker_sync_ledger.entries SET entry = %s, leaf = CASE WHEN %s THEN %s ELSE leaf END WHERE number = %s",
        (data.decode(), leaf, leaf_hash(data), number),
    )


def copy_row(connection: Connection, number: int, to: int, later: str = "0") -> None:
    """Add the row of `number` once more, under another number or at another time of recording."""
    connection.execute(
        """
        INSERT INTO worker_sync_ledger.entries
        SELECT %s, recorded_at + %s::interval, kind, source, table_name, operation, key, transaction, committed_at,
               actor, leaf, entry FROM worker_sync_ledger.entries WHERE number = %s
        """,
        (to, later, number),
    )


def renumber(connection: Connection, number: int, to: int) -> None:
    connection.execute("UPDATE worker_sync_ledger.entries SET number = %s WHERE number = %s", (to, number))


def rewrite(
    connection: Connection, change: Callable[[dict[str, Any]], dict[str, Any]], size: int | None = None
) -> Frontier:
    """Change entries and make everything else fit: leaves, subtrees, head. Returns the new tree."""
    changed = [change(entry) for entry in entries(connection)][:size]
    connection.execute("DELETE FROM worker_sync_ledger.entries WHERE number >= %s", [len(changed)])
    leaves = [leaf_hash(canonical(entry)) for entry in changed]
    for number, entry in enumerate(changed):
        put(connection, number, entry, leaf=True)
        connection.execute(
            "UPDATE worker_sync_ledger.entries SET actor = %s WHERE number = %s", (entry.get("actor"), number)
        )
    tree = Frontier()
    subtrees = tree.append(leaves)
    connection.execute("DELETE FROM worker_sync_ledger.subtrees")
    for node in subtrees:
        values = (node.level, node.index, node.hash)
        connection.execute("INSERT INTO worker_sync_ledger.subtrees (level, index, hash) VALUES (%s, %s, %s)", values)
    connection.execute("UPDATE worker_sync_ledger.head SET size = %s, roots = %s", (tree.size, b"".join(tree.roots)))
    return tree


def edited_all(connection: Connection, size: int | None = None) -> Frontier:
    """Say of all changes that another one made them."""
    return rewrite(
        connection, lambda entry: entry | {"actor": "emma"} if entry["kind"] == "change" else entry, size=size
    )
