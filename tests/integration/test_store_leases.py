"""Leases on a real server: one holder at a time, and a number that tells holders apart."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.eventually import eventually
from worker_sync.store import ControlStore


@pytest.fixture
def store(target_db: str) -> Iterator[ControlStore]:
    with ControlStore(target_db) as store:
        store.migrate()
        yield store


def test_a_second_holder_waits_while_the_first_renews(store: ControlStore) -> None:
    first = store.leases.acquire("capture:shop", "a", 30)
    assert first is not None
    assert store.leases.acquire("capture:shop", "b", 30) is None
    assert store.leases.renew(first)
    assert store.leases.acquire("capture:crm", "b", 30) is not None


def test_an_expired_lease_is_taken_over_with_a_higher_token(store: ControlStore) -> None:
    first = store.leases.acquire("capture:shop", "a", 0.2)
    assert first is not None
    second = eventually(lambda: store.leases.acquire("capture:shop", "b", 30), 5)
    assert second is not None
    assert second.token > first.token
    assert not store.leases.renew(first)
    store.leases.release(first)  # says nothing, does nothing
    holding = store.leases.holding("capture:shop")
    assert holding is not None
    assert (holding.holder, holding.token) == ("b", second.token)


def test_an_expired_lease_that_nobody_took_can_still_be_renewed(store: ControlStore) -> None:
    lease = store.leases.acquire("capture:shop", "a", 0.1)
    assert lease is not None
    eventually(lambda: store.leases.holding("capture:shop") is None, 5)
    assert store.leases.renew(lease)


def test_a_released_lease_is_free_at_once_and_its_number_stays(store: ControlStore) -> None:
    first = store.leases.acquire("capture:shop", "a", 30)
    assert first is not None
    store.leases.release(first)
    second = store.leases.acquire("capture:shop", "b", 30)
    assert second is not None
    assert second.token == first.token + 1


def test_a_token_exceeds_what_was_seen_elsewhere(store: ControlStore) -> None:
    lease = store.leases.acquire("capture:shop", "a", 30, at_least=41)
    assert lease is not None
    assert lease.token == 42


def test_of_many_that_race_one_wins(target_db: str, store: ControlStore) -> None:
    def race(number: int) -> int | None:
        with ControlStore(target_db) as own:
            lease = own.leases.acquire("capture:shop", f"holder-{number}", 30)
            return lease.token if lease else None

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(race, range(8)))
    assert sorted(token for token in tokens if token) == [1]
