"""Proofs about single entries and trees, for who holds a checkpoint and not the ledger."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.ledger.reader import LedgerReader
from worker_sync.core.errors import ConfigError, WorkerSyncError
from worker_sync.ledger.checkpoint import Checkpoint, open_checkpoint
from worker_sync.ledger.note import NoteError, Verifier
from worker_sync.ledger.proofs import (
    consistency_proof,
    inclusion_proof,
    tree_root,
    verify_consistency,
    verify_inclusion,
)


class Inclusion(msgspec.Struct, frozen=True):
    """That an entry is in a signed tree (RFC 6962, 2.1.1). `holds` is what became of the check."""

    number: int
    entry: str
    leaf: bytes
    size: int
    root: bytes
    proof: list[bytes]
    checkpoint: str
    signers: list[str]
    time: str | None
    holds: bool


class Consistency(msgspec.Struct, frozen=True):
    """That a tree begins with a smaller one (RFC 6962, 2.1.2); `signed` are the sizes of which there is a checkpoint of
    a trusted key with this root."""

    old: int
    new: int
    old_root: bytes
    new_root: bytes
    proof: list[bytes]
    signed: list[int]
    holds: bool


def prove_entry(reader: LedgerReader, number: int, keys: Sequence[Verifier]) -> Inclusion:
    """Prove an entry against the newest checkpoint of a trusted key. Raises ConfigError for an entry that is not there,
    WorkerSyncError for one that no checkpoint covers yet and where stored hashes are not there."""
    with reader.snapshot():
        found = reader.entry(number)
        if found is None:
            raise ConfigError(f"the ledger has no entry {number}; see: worker-sync audit log")
        tree, note, signers = _newest(reader, keys)
        if number >= tree.size:
            raise WorkerSyncError(f"no checkpoint covers entry {number} yet; next: worker-sync audit checkpoint")
        try:
            proof = inclusion_proof(number, tree.size, reader.hash_of)
        except LookupError as error:
            raise WorkerSyncError(f"{error}; next: worker-sync audit verify") from error
    leaf, entry = found
    holds = verify_inclusion(number, tree.size, leaf, proof, tree.root)
    return Inclusion(number, entry, leaf, tree.size, tree.root, proof, note, signers, tree.time, holds)


def prove_consistency(reader: LedgerReader, old: int, new: int, keys: Sequence[Verifier]) -> Consistency:
    """Prove that the tree of `new` entries begins with that of `old`. Raises ConfigError for sizes that are not there,
    WorkerSyncError where stored hashes are not there."""
    with reader.snapshot():
        head = reader.head()
        if not 0 <= old <= new or head is None or new > head.size:
            there = "none" if head is None else head.size
            raise ConfigError(f"give two sizes, the smaller one first, up to the ledger's ({there})")
        try:
            proof = consistency_proof(old, new, reader.hash_of)
            roots = {size: tree_root(size, reader.hash_of) for size in (old, new)}
        except LookupError as error:
            raise WorkerSyncError(f"{error}; next: worker-sync audit verify") from error
        trees = [tree for tree, _, _ in _signed(reader, keys)]
    signed = [size for size in (old, new) if any(tree.size == size and tree.root == roots[size] for tree in trees)]
    contradicted = any(tree.size in roots and tree.root != roots[tree.size] for tree in trees)
    holds = verify_consistency(old, new, roots[old], roots[new], proof) and not contradicted
    return Consistency(old, new, roots[old], roots[new], proof, signed, holds)


def _newest(reader: LedgerReader, keys: Sequence[Verifier]) -> tuple[Checkpoint, str, list[str]]:
    found = max(_signed(reader, keys), key=lambda one: one[0].size, default=None)
    if found is None:
        raise WorkerSyncError("there is no checkpoint of a trusted key; next: worker-sync audit checkpoint")
    return found


def _signed(reader: LedgerReader, keys: Sequence[Verifier]) -> list[tuple[Checkpoint, str, list[str]]]:
    signed = []
    for stored in reader.notes():
        try:
            tree, opened = open_checkpoint(stored.note, keys)
        except NoteError:
            continue  # for `audit verify` to find
        signed.append((tree, stored.note, [f"{one.name}+{one.key_id.hex()}" for one in opened.verified]))
    return signed
