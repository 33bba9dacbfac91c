"""Mixed traffic on the four tables, and a witness who looks at a copy all the time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.faults.books import ACCOUNTS, OPENING, Books, Execute, Seen, SqlBooks
from tests.fixtures.traffic import Traffic

IDS = 400
NOTES = 40
LARGE = 4_000
#: Changes in a transaction; fewer than a batch has, so that each stays whole.
SIZES = (1, 1, 1, 2, 3, 8, 40)
#: Seconds between two transactions: traffic, not a flood, on a machine that runs everything else too.
PAUSE_S = 0.06
#: A copy that is this many transactions behind, on a machine that is too slow, gets fewer of them.
BEHIND = 60
BEHIND_PAUSE_S = 0.5
AGAIN_S = 0.1
LOOK_EVERY_S = 0.1

_INSERT = (
    "INSERT INTO items SELECT %(id)s, %(version)s, %(code)s, %(text)s, CAST(%(amount)s AS decimal(12,2)), %(body)s "
    "FROM (SELECT 1 AS one) t WHERE NOT EXISTS (SELECT 1 FROM items WHERE id = %(id)s)"
)
_UPDATE = "UPDATE items SET version = %(version)s, name = %(text)s, amount = %(amount)s WHERE id = %(id)s"
_UPDATE_BODY = "UPDATE items SET version = %(version)s, body = %(body)s WHERE id = %(id)s"
_UNIQUE = "UPDATE items SET version = %(version)s, code = %(code)s WHERE id = %(id)s"
_MOVE = (
    "UPDATE items SET id = %(other)s, version = %(version)s WHERE id = %(id)s "
    "AND NOT EXISTS (SELECT 1 FROM (SELECT id FROM items) other WHERE other.id = %(other)s)"
)
_DELETE = "DELETE FROM items WHERE id = %(id)s"
_CODE = "SELECT code FROM items WHERE id = %(id)s"
_PAY = "UPDATE accounts SET version = %(version)s, balance = balance + %(sum)s WHERE id = %(id)s"
_EVENT = "INSERT INTO events VALUES (%(kind)s, %(note)s)"
_EVENT_UPDATE = "UPDATE events SET kind = %(kind)s WHERE note = %(note)s"
_EVENT_DELETE = "DELETE FROM events WHERE note = %(note)s"
_STEP = "INSERT INTO steps SELECT COALESCE(MAX(n), 0) + 1 FROM steps"

_MIX = (
    [_INSERT] * 25 + [_UPDATE] * 20 + [_UPDATE_BODY] * 5 + [_UNIQUE] * 4 + [_MOVE] * 8 + [_DELETE] * 8
    + ["swap"] * 8 + ["pay"] * 12
)  # fmt: skip
_EVENTS = [_EVENT] * 8 + [_EVENT_UPDATE] * 2 + [_EVENT_DELETE] * 3


class MixedLoad(Traffic):
    """Writes from a thread of its own until the block is left; a source that goes away is waited for."""

    def __init__(self, books: SqlBooks, seed: int = 1) -> None:
        super().__init__(books.url, seed)
        self._books = books
        self._numbers = itertools.count(1)
        #: Says the newest step that every copy has.
        self.arrived: Callable[[], int] = lambda: self.transactions
        self._mix = _MIX + (_EVENTS if "events" in books.tables else [])

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                with self._books.connected() as execute:
                    while not self.stopping.wait(self._pause()):
                        self._transaction(execute)
                        self.transactions += 1
            except self._books.lost:
                self.stopping.wait(AGAIN_S)

    def _pause(self) -> float:
        return BEHIND_PAUSE_S if self.transactions - self.arrived() > BEHIND else PAUSE_S

    def _transaction(self, execute: Execute) -> None:
        execute("BEGIN", {})
        for _ in range(self.random.choice(SIZES)):
            self._change(execute)
        execute(_STEP, {})
        execute("COMMIT", {})

    def _change(self, execute: Execute) -> None:
        kind, values = self.random.choice(self._mix), self._values()
        if kind == "swap":
            self._swap(execute, values["id"], values["other"])
        elif kind == "pay":
            payer, payee = self.random.sample(range(ACCOUNTS), 2)
            for account, amount in ((payer, -values["sum"]), (payee, values["sum"])):
                execute(_PAY, {"id": account, "sum": amount, "version": next(self._numbers)})
        else:
            execute(kind, {name: value for name, value in values.items() if f"%({name})s" in kind})

    def _swap(self, execute: Execute, one: int, other: int) -> None:
        """Two rows exchange their unique codes, which takes a third value in between."""
        found = [execute(_CODE, {"id": key}) for key in (one, other)]
        if one == other or not all(found):
            return
        first, second = (rows[0][0] for rows in found)
        for key, code in ((one, f"between-{next(self._numbers)}"), (other, first), (one, second)):
            execute(_UNIQUE, {"id": key, "code": code, "version": next(self._numbers)})

    def _values(self) -> dict[str, Any]:
        pick, number = self.random, next(self._numbers)
        text = f"t{pick.randrange(1_000_000)}é🐘"
        return {
            "id": pick.randrange(IDS),
            "other": pick.randrange(IDS),
            "version": number,
            "code": f"code-{number}",
            "text": text,
            "amount": f"{pick.randrange(-100_000, 100_000) / 100:.2f}",
            "body": text * (LARGE // len(text) if pick.random() < 0.1 else 1),
            "sum": pick.randrange(1, 50),
            "kind": pick.choice("abc"),
            "note": f"note {pick.randrange(NOTES)}",
        }


class Witness(Traffic):
    """Looks at a copy again and again; `found` says what it saw that must never be seen.

    `complete` is called before each look: only after the copy is loaded can steps be missing or a sum be wrong.
    """

    def __init__(self, name: str, books: Books) -> None:
        super().__init__(books.url)
        self.name = name
        self.found: list[str] = []
        self.looked = 0
        self.last_step = 0
        #: Set once the existing rows are there.
        self.complete = False
        self._books = books
        self._newest: dict[tuple[str, int], int] = {}

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                with self._books.looks() as look:
                    while not self.stopping.wait(LOOK_EVERY_S):
                        complete = self.complete
                        self._judge(look(), complete=complete)
            except (*self._books.lost, *self._books.unmade):
                self.stopping.wait(AGAIN_S)

    def _judge(self, seen: Seen, *, complete: bool) -> None:
        back = [(row, self._newest[row], now) for row, now in seen.versions.items() if self._newest.get(row, 0) > now]
        self.found += [f"{self.name}: {row} went from version {before} back to {now}" for row, before, now in back]
        self._newest |= seen.versions
        if seen.last_step < self.last_step:
            self.found.append(f"{self.name}: step {self.last_step} was there, then {seen.last_step} was the last")
        if complete and seen.steps != seen.last_step:
            self.found.append(f"{self.name}: {seen.steps} steps up to step {seen.last_step}")
        if complete and seen.balance != ACCOUNTS * OPENING:
            self.found.append(f"{self.name}: the accounts hold {seen.balance} at step {seen.last_step}")
        self.last_step = seen.last_step
        self.looked += 1
