"""Batches that are too large for the broker, through a real Redis and a real worker."""

from __future__ import annotations

from tasks import claims
from tasks.parcels import publish
from tests.fixtures.eventually import eventually
from tests.integration.test_tasks import PIPELINE, System, batch, parcel, system
from worker_sync.core.codec import encode
from worker_sync.store.pipelines import Status

__all__ = ["system"]


def claim(system: System, number: int) -> bytes:
    """The claim on a batch that the store holds."""
    return claims.store(system.control.claims, PIPELINE, encode(batch(number)))


def count(system: System) -> int:
    return system.control.claims.forget(-60)


def test_a_claimed_batch_is_applied_and_then_forgotten(system: System) -> None:
    one = claim(system, 1)
    assert one == claim(system, 1)
    publish(system.app, parcel(batch(1), one))
    publish(system.app, parcel(batch(1), one))
    with system.worker():
        eventually(lambda: system.applied(1), 20, "the batch is applied")
        eventually(lambda: system.waiting() == 0, 20, "the other copy is dropped")
    assert system.ids() == [100, 101, 102]
    assert system.standing().status is Status.RUNNING
    assert count(system) == 0


def test_an_early_claim_waits_for_the_batch_before_it(system: System) -> None:
    publish(system.app, parcel(batch(2), claim(system, 2)))
    with system.worker():
        publish(system.app, parcel(batch(1), claim(system, 1)))
        eventually(lambda: system.applied(2), 20, "both are applied")
        eventually(lambda: system.waiting() == 0, 20, "nothing is left")
    assert count(system) == 0


def test_a_claim_that_is_gone_is_left_to_its_capture(system: System) -> None:
    gone = claim(system, 1)
    assert count(system) == 1
    publish(system.app, parcel(batch(1), gone))
    with system.worker() as role:
        eventually(lambda: "not kept any more" in role.text(), 20, "it is dropped")
        publish(system.app, parcel(batch(1), claim(system, 1)))
        eventually(lambda: system.applied(1), 20, "sent again it is applied")
    assert system.standing().status is Status.RUNNING


def test_a_claim_on_something_else_halts_the_pipeline(system: System) -> None:
    one = claim(system, 1)
    system.control.claims.remove(PIPELINE, one[1:].hex())
    system.control.claims.put(PIPELINE, one[1:].hex(), encode(batch(1, rows=2)))
    publish(system.app, parcel(batch(1), one))
    with system.worker():
        eventually(lambda: system.standing().status is Status.HALTED, 20, "it is halted")
    assert system.standing().reason == "undecodable-batch"
    assert system.ids() == []
