"""Batches that are too large for the broker: the message only names one that the control store holds.

A claim is a byte that no batch begins with, then the SHA-256 of the batch. That is its name in the store too, so the
same batch sent again is the same claim, and what is fetched is known to be what was sent.
"""

from __future__ import annotations

import hashlib
from typing import Final

from worker_sync.core.errors import UndecodableBatch
from worker_sync.store.claims import Claims

#: Not a version of the wire form of batches.
MARK: Final = b"\x00"
_SIZE: Final = len(MARK) + hashlib.sha256().digest_size


def is_claim(data: bytes) -> bool:
    return len(data) == _SIZE and data.startswith(MARK)


def store(claims: Claims, pipeline: str, batch: bytes) -> bytes:
    """Keep a batch; returns the claim that travels in its place."""
    digest = hashlib.sha256(batch).digest()
    claims.put(pipeline, digest.hex(), batch)
    return MARK + digest


def fetch(claims: Claims, pipeline: str, claim: bytes) -> bytes | None:
    """The batch of a claim, None when it is gone. Raises UndecodableBatch for what is not the batch that was sent."""
    name = _name(claim)
    batch = claims.get(pipeline, name)
    if batch is not None and hashlib.sha256(batch).hexdigest() != name:
        raise UndecodableBatch(f"claim {name[:12]} of {pipeline} holds something else than what was sent")
    return batch


def remove(claims: Claims, pipeline: str, claim: bytes) -> None:
    """The batch of a claim is applied."""
    claims.remove(pipeline, _name(claim))


def _name(claim: bytes) -> str:
    return claim[len(MARK) :].hex()
