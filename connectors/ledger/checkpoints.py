"""Makes checkpoints: signs the ledger's tree when it is the one that was signed before, grown.

A signature can't be taken back. So before one is given the tree has to begin with the newest checkpoint, in the tables
and in each anchor, whoever signed those: proven from stored hashes up to the root that the head has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from connectors.ledger import anchors, registry
from connectors.ledger.anchors import Anchor, LedgerForked
from connectors.ledger.reader import LedgerReader, StoredNote
from connectors.ledger.session import Session
from connectors.postgres.conn import redact
from connectors.postgres.errors import translated
from worker_sync.core.errors import ConfigError, Transient
from worker_sync.ledger.checkpoint import Checkpoint, checkpoint, parse, sign_checkpoint
from worker_sync.ledger.merkle import Frontier
from worker_sync.ledger.note import NoteError, Signer, split
from worker_sync.ledger.proofs import HashOf, consistency_proof, tree_root, verify_consistency

#: Who makes checkpoints of one ledger takes turns; a session's lock, as transactions see what was before they waited.
_LOCK: Final = "SELECT pg_advisory_lock(1462979182)"
_INSERT: Final = """
INSERT INTO worker_sync_ledger.checkpoints (size, signed_at, note) VALUES ($1::bigint, $2::timestamptz, $3)
"""
_NEXT: Final = "next: worker-sync audit verify"


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: the newest checkpoint, whether it `is_new`, how many notes went into anchors, and which keys
    were entered into the ledger because they signed for the first time."""

    checkpoint: Checkpoint
    note: str
    is_new: bool
    anchored: int
    keys_added: tuple[str, ...]


class AnchorFailed(Transient):
    """The checkpoint stands, but not in every anchor

    `made` is what was done; the next run writes what is missing.
    """

    def __init__(self, made: Made, failures: Sequence[str]) -> None:
        super().__init__("; ".join(failures))
        self.made = made


def make_checkpoint(
    url: str,
    origin: str,
    signers: Sequence[Signer],
    second_places: Sequence[Anchor] = (),
    *,
    force: bool = False,
    at: datetime | None = None,
) -> Made:
    """Sign the ledger's tree with each of `signers` and write the note into every anchor.

    Nothing is signed when the newest checkpoint is of the same tree and has all of these signers, unless `force` says
    so; anchors get what they lack nevertheless. `at` is the time that the note says: now, unless given.

    Raises LedgerForked, and signs nothing, when the tree is not the one that was signed before, grown; AnchorFailed
    when the checkpoint stands but an anchor lacks it; ConfigError, Unreachable, Transient.
    """
    if not signers:
        raise ConfigError("a checkpoint needs a signing key")
    with _locked(url) as connection, LedgerReader(url) as reader:
        kept = _kept(reader, origin, second_places)
        head, newest = _checked(reader, origin, kept.notes)
        added = registry.add_new(connection, reader, signers)
        if added:
            head, newest = _checked(reader, origin, kept.notes)
        is_new = force or newest is None or not _says(newest, head, signers)
        if is_new:
            tree = checkpoint(origin, head.size, head.root, at or datetime.now(UTC))
            note = sign_checkpoint(tree, signers)
            connection.execute(_INSERT, [str(head.size), tree.time, note])
        else:
            assert newest is not None
            note = newest.note
        anchored, failures = _anchor(reader, origin, kept)
    made = Made(parse(split(note)[0]), note, is_new, anchored, added)
    if failures:
        raise AnchorFailed(made, failures)
    return made


@contextmanager
def _locked(url: str) -> Iterator[Any]:
    """A connection that writes, while no other makes a checkpoint."""
    session = Session(url)
    try:
        with translated(redact(url)):
            connection = session.connection()
            connection.execute(_LOCK)
            yield connection
    finally:
        session.close()


@dataclass(frozen=True, slots=True)
class _Kept:
    """The newest notes of anchors, each with where it is; the anchors that gave them; what the others failed of."""

    notes: list[tuple[str, str]]
    anchors: list[Anchor]
    failures: list[str]


def _kept(reader: LedgerReader, origin: str, places: Sequence[Anchor]) -> _Kept:
    """Asks every anchor once. One that hangs is not asked again, and holds no snapshot of the database."""
    found = _Kept([], [], [])
    for anchor in places:
        try:
            found.notes.extend(anchors.newest(anchor, origin, _size(reader)))
            found.anchors.append(anchor)
        except Transient as error:
            found.failures.append(error.detail)
    return found


def _size(reader: LedgerReader) -> int:
    head = reader.head()
    return head.size if head else 0


def _checked(reader: LedgerReader, origin: str, kept: Sequence[tuple[str, str]]) -> tuple[Frontier, StoredNote | None]:
    """The tree that may be signed, and the newest checkpoint. Raises LedgerForked."""
    with reader.snapshot():
        head, newest = _sound_head(reader), reader.newest_note()
        stored = [(f"checkpoint {newest.id}", newest.note)] if newest else []
        for where, note in [*stored, *kept]:
            _check_begins(where, note, origin, head, reader.hash_of)
    return head, newest


def _sound_head(reader: LedgerReader) -> Frontier:
    """The head, whose roots are those of the stored hashes."""
    head = reader.head()
    if head is None:
        raise LedgerForked(f"the ledger's head is not there or is none; {_NEXT}")
    try:
        stored = tree_root(head.size, reader.hash_of)
    except LookupError as error:
        raise LedgerForked(f"{error}; {_NEXT}") from error
    if stored != head.root:
        raise LedgerForked(f"the head's roots are not those of the stored hashes; {_NEXT}")
    return head


def _check_begins(where: str, note: str, origin: str, head: Frontier, hash_of: HashOf) -> None:
    """Raise LedgerForked unless the tree of `head` begins with that of the note."""
    try:
        old = parse(split(note)[0])
    except NoteError as error:
        raise LedgerForked(f"{where} is no checkpoint: {error}; {_NEXT}") from error
    if old.origin != origin:
        raise LedgerForked(f"{where} is of another log, {old.origin}; see ledger.origin in the configuration")
    if old.size > head.size:
        raise LedgerForked(f"{where} signs {old.size} entries and the ledger has {head.size}; {_NEXT}")
    try:
        proof = consistency_proof(old.size, head.size, hash_of)
    except LookupError as error:
        raise LedgerForked(f"{where}: {error}; {_NEXT}") from error
    if not verify_consistency(old.size, head.size, old.root, head.root, proof):
        raise LedgerForked(f"{where}: its tree of {old.size} entries is not the beginning of the ledger's; {_NEXT}")


def _says(newest: StoredNote, head: Frontier, signers: Sequence[Signer]) -> bool:
    """Whether the newest checkpoint already is what would be signed now."""
    text, signatures = split(newest.note)
    by = {(signature.name, signature.key_id) for signature in signatures}
    return parse(text).size == head.size and by.issuperset((signer.name, signer.key_id) for signer in signers)


def _anchor(reader: LedgerReader, origin: str, kept: _Kept) -> tuple[int, list[str]]:
    """Write what anchors lack; how many notes, and what failed."""
    written, failures, size = 0, list(kept.failures), _size(reader)
    for anchor in kept.anchors:
        try:
            lacking = anchors.missing(anchor, origin, size, (stored.note for stored in reader.notes_backwards()))
            for note in lacking:
                anchors.write(anchor, origin, note)
                written += 1
        except Transient as error:
            failures.append(error.detail)
    return written, failures
