"""Traffic: inserts, updates, deletes and key changes on two tables, in transactions of 1 to 200 changes."""

from __future__ import annotations

from typing import Any, ClassVar

import psycopg

from tests.fixtures.traffic import Traffic

IDS = 1500
LARGE = 400
#: Seconds between two transactions: traffic, not a flood, on a machine that runs everything else too.
PAUSE_S = 0.03
AGAIN_S = 0.1

_INSERT = (
    "INSERT INTO items VALUES (%(id)s, %(text)s, %(amount)s, repeat(md5(%(text)s), %(size)s)) ON CONFLICT DO NOTHING"
)
#: Of a large body nothing is sent by the server when only other columns change.
_UPDATE = "UPDATE items SET name = %(text)s, amount = %(amount)s WHERE id = %(id)s"
_UPDATE_BODY = "UPDATE items SET body = repeat(md5(%(text)s), %(size)s) WHERE id = %(id)s"
_CHANGE_KEY = (
    "UPDATE items SET id = %(other)s, name = name || 'k' WHERE id = %(id)s "
    "AND NOT EXISTS (SELECT FROM items WHERE id = %(other)s)"
)
_DELETE = "DELETE FROM items WHERE id = %(id)s"
_TAG = (
    "INSERT INTO tags VALUES (%(id)s, %(label)s, %(text)s) ON CONFLICT (item, label) DO UPDATE SET note = excluded.note"
)
_MOVE_TAG = (
    "UPDATE tags SET item = %(other)s WHERE item = %(id)s AND label = %(label)s "
    "AND NOT EXISTS (SELECT FROM tags WHERE item = %(other)s AND label = %(label)s)"
)
_UNTAG = "DELETE FROM tags WHERE item = %(id)s AND label = %(label)s"

_MIX = (
    [_INSERT] * 30 + [_UPDATE] * 22 + [_UPDATE_BODY] * 5 + [_CHANGE_KEY] * 10 + [_DELETE] * 8
    + [_TAG] * 15 + [_MOVE_TAG] * 6 + [_UNTAG] * 4
)  # fmt: skip
_SIZES = (1, 1, 1, 1, 2, 5, 20, 200)


class Load(Traffic):
    """Writes from a thread of its own until the block is left; a source that goes away is waited for.

    `changes` counts the row changes that are known to be committed.
    """

    mix: ClassVar = _MIX

    def __init__(self, url: str, seed: int = 1) -> None:
        super().__init__(url, seed)
        self.changes = 0

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                self._write()
            except psycopg.OperationalError:
                self.stopping.wait(AGAIN_S)

    def _write(self) -> None:
        with psycopg.connect(self.url) as connection:
            while not self.stopping.wait(PAUSE_S):
                self.changes += self._transaction(connection)
                self.transactions += 1

    def _transaction(self, connection: psycopg.Connection) -> int:
        cursors = []
        with connection.transaction(), connection.pipeline():
            for _ in range(self.random.choice(_SIZES)):
                cursors.append(connection.execute(self.random.choice(self.mix), self._values()))
        return sum(cursor.rowcount for cursor in cursors)

    def _values(self) -> dict[str, Any]:
        pick = self.random
        return {
            "id": pick.randrange(IDS),
            "other": pick.randrange(IDS),
            "text": f"t{pick.randrange(1_000_000)}",
            "amount": pick.randrange(100_000) / 100,
            "size": pick.choice((1, 1, 1, LARGE)),
            "label": pick.choice("abcde"),
        }


def fill(url: str, rows: int = IDS) -> None:
    """Rows that are there before anybody captures: a snapshot's work."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO items SELECT n, 'old', n, repeat(md5(n::text), CASE n %% 4 WHEN 0 THEN %s ELSE 1 END) "
            "FROM generate_series(0, %s) n",
            (LARGE, rows - 1),
        )
        connection.execute("INSERT INTO tags SELECT n, 'a', 'old' FROM generate_series(0, %s, 2) n", (rows - 1,))


class KeptKeys(Load):
    """No row changes its key. One that goes to another shard by that makes all shards wait for each other."""

    mix: ClassVar = [statement for statement in _MIX if statement not in (_CHANGE_KEY, _MOVE_TAG)]
