"""Which transactions a snapshot saw, from the 32 bits of their ids that the log has."""

from __future__ import annotations

import pytest

from connectors.postgres.reader import PostgresChunk
from connectors.postgres.slot import stream_name
from worker_sync.core.change import TransactionInfo

EPOCH = 1 << 32


def sees(chunk: PostgresChunk, xid: int) -> bool:
    return chunk.sees(TransactionInfo("0", 0, str(xid % EPOCH)))


@pytest.mark.parametrize("base", [1_000, 5 * EPOCH + 1_000, 5 * EPOCH, 5 * EPOCH - 3, (1 << 31) + 7])
def test_older_ones_are_seen_running_and_newer_ones_are_not(base: int) -> None:
    chunk = PostgresChunk(base, base + 10, frozenset({base, base + 4}), "")
    assert [sees(chunk, base + offset) for offset in range(-2, 12)] == [
        *(True, True),
        *(False, True, True, True, False, True, True, True, True, True),
        *(False, False),
    ]


def test_ids_of_the_epoch_before_and_after_are_told_apart() -> None:
    chunk = PostgresChunk(5 * EPOCH + 2, 5 * EPOCH + 2, frozenset(), "")
    assert sees(chunk, 5 * EPOCH - 100)
    assert sees(chunk, 5 * EPOCH + 1)
    assert not sees(chunk, 5 * EPOCH + 2)
    assert not sees(chunk, 5 * EPOCH + 1_000_000)


@pytest.mark.parametrize(
    ("database", "name"),
    [("shop", "worker_sync_shop"), ("shop_2", "worker_sync_shop_2")],
)
def test_a_stream_is_named_after_its_database(database: str, name: str) -> None:
    assert stream_name(database) == name


def test_names_that_would_become_the_same_stay_different() -> None:
    names = [stream_name(name) for name in ("shop", "Shop", "sh-op", "sh_op", "sh.op", "x" * 80, "x" * 81)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for name in names)
