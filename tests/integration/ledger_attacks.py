"""What may be done to the entries of a ledger, and what is found of it in its tables and in an export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.integration.ledger_tampering import Connection, copy_row, entries, put, renumber

#: Two complete subtrees of 256, and a part of a third. The first two entries are not changes.
SIZE = 702
LAST = SIZE - 1


class Attack(NamedTuple):
    """What is done; findings about entries in the tables, and the exit code; kinds in an export, and its exit code."""

    run: Callable[[Connection], object]
    found: list[tuple[str, int, int]]
    code: int
    exported: set[str]
    exported_code: int


def edited(number: int, /, *, leaf: bool = False, **fields: Any) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        put(connection, number, entries(connection)[number] | fields, leaf=leaf)

    return run


def swapped(one: int, other: int) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        renumber(connection, one, -1)
        renumber(connection, other, one)
        renumber(connection, -1, other)

    return run


def swapped_bytes(one: int, other: int) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        there = entries(connection)
        put(connection, one, there[other], leaf=False)
        put(connection, other, there[one], leaf=False)

    return run


def deleted(*numbers: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(
        "DELETE FROM worker_sync_ledger.entries WHERE number = ANY(%s)", [list(numbers)]
    )


def copied_over(number: int, over: int) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        deleted(over)(connection)
        copy_row(connection, number, over)

    return run


def replaced_leaf(number: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(
        "UPDATE worker_sync_ledger.entries SET leaf = %s WHERE number = %s", (b"\7" * 32, number)
    )


def several(*runs: Callable[[Connection], object]) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        for one in runs:
            one(connection)

    return run


ATTACKS: dict[str, Attack] = {
    "an entry is changed": Attack(edited(300, actor="emma"), [("altered", 300, 300)], 10, {"altered"}, 10),
    "the first entry is changed": Attack(edited(0, identity="x"), [("altered", 0, 0)], 10, {"altered"}, 10),
    "the last entry is changed": Attack(edited(LAST, actor="emma"), [("altered", LAST, LAST)], 10, {"altered"}, 10),
    "an entry is changed with its leaf": Attack(
        edited(300, leaf=True, host="db-9"), [("altered", 256, 511)], 10, {"altered"}, 10
    ),
    "one of the last entries is changed with its leaf": Attack(
        edited(600, leaf=True, host="db-9"), [("altered", 512, 639)], 10, {"altered"}, 10
    ),
    "a leaf is changed": Attack(replaced_leaf(300), [("altered", 300, 300)], 10, {"altered"}, 10),
    "the first entry is deleted": Attack(deleted(0), [("missing", 0, 0)], 11, {"missing"}, 11),
    "an entry is deleted": Attack(deleted(300), [("missing", 300, 300)], 11, {"missing"}, 11),
    "the last entry is deleted": Attack(deleted(LAST), [("missing", LAST, LAST)], 11, {"missing"}, 11),
    "a whole subtree is deleted": Attack(deleted(*range(256, 512)), [("missing", 256, 511)], 11, {"missing"}, 11),
    "a row is added at the end": Attack(
        lambda c: copy_row(c, 300, SIZE), [("inserted", 300, 300)], 12, {"inserted"}, 12
    ),
    "a row is added with a number that is taken": Attack(
        lambda c: copy_row(c, 300, 300, "1 microsecond"), [("inserted", 300, 300)], 12, {"inserted"}, 12
    ),
    "a row is added before the first": Attack(
        lambda c: copy_row(c, 300, -1), [("inserted", 300, 300)], 12, {"inserted"}, 12
    ),
    "two rows are swapped": Attack(swapped(300, 310), [("moved", 300, 300), ("moved", 310, 310)], 13, {"moved"}, 13),
    "two rows of different subtrees are swapped": Attack(
        swapped(100, 310), [("moved", 100, 100), ("moved", 310, 310)], 13, {"moved"}, 13
    ),
    "two of the last rows are swapped": Attack(
        swapped(600, LAST), [("moved", 600, 600), ("moved", LAST, LAST)], 13, {"moved"}, 13
    ),
    "the bytes of two rows are swapped": Attack(
        swapped_bytes(300, 310), [("moved", 300, 300), ("moved", 310, 310)], 13, {"moved"}, 13
    ),
    "an entry is replayed over another": Attack(
        copied_over(300, 310), [("inserted", 300, 300), ("missing", 310, 310)], 11, {"missing", "inserted"}, 11
    ),
}
