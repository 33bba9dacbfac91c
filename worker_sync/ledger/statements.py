"""Checkpoints against the tree of an export: what each of them, signed by a trusted key, says about its leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker_sync.ledger.checkpoint import Checkpoint
from worker_sync.ledger.findings import Findings, Kind, Signed
from worker_sync.ledger.merkle import EMPTY_ROOT
from worker_sync.ledger.proofs import verify_consistency


@dataclass(frozen=True, slots=True)
class Statement:
    """A checkpoint with a valid signature of a trusted key: one of the export's, or an anchor."""

    where: str
    checkpoint: Checkpoint
    signers: tuple[str, ...]
    anchor: bool = False

    @property
    def size(self) -> int:
        return self.checkpoint.size

    def signed(self) -> Signed:
        return Signed(self.where, self.size, list(self.signers), self.checkpoint.time)


@dataclass(frozen=True, slots=True)
class Tree:
    """What an export shows: roots by size within [first, end], and proofs for sizes outside."""

    first: int
    end: int
    roots: Mapping[int, bytes]
    proofs: Mapping[int, Sequence[bytes]]

    def agrees(self, checkpoint: Checkpoint) -> bool | None:
        """Whether the tree of `checkpoint` is this one, shorter or longer; None where nothing shows it."""
        size, root = checkpoint.size, checkpoint.root
        if size == 0:
            return root == EMPTY_ROOT
        if size in self.roots:
            return self.roots[size] == root
        proof = self.proofs.get(size)
        if proof is None:
            return None
        if size < self.first:
            return verify_consistency(size, self.first, root, self.roots[self.first], proof)
        return verify_consistency(self.end, size, self.roots[self.end], root, proof)


def judge(statements: Sequence[Statement], tree: Tree, findings: Findings) -> list[Signed]:
    """Note what contradicts the tree; the statements that agree with it.

    A tree that a larger, signed one doesn't begin with is a fork. Without a larger one that agrees, leaves that differ
    from what was signed are altered ones; an anchor that nothing in the export speaks for is a fork of it.
    """
    verdicts = {statement: tree.agrees(statement.checkpoint) for statement in statements}
    agreeing = [statement for statement, verdict in verdicts.items() if verdict]
    proven = max((statement.size for statement in agreeing), default=-1)
    disputed = max((s.size for s, verdict in verdicts.items() if verdict is False and not s.anchor), default=-1)
    for statement in (statement for statement, verdict in verdicts.items() if verdict is False):
        if statement.size <= proven or (statement.anchor and disputed < statement.size):
            detail = f"{statement.where}: its tree of {statement.size} entries is not the beginning of the export's"
            findings.add(Kind.FORKED, detail)
        else:
            _altered(statement, tree, agreeing, findings)
    for statement in (statement for statement, verdict in verdicts.items() if verdict is None):
        findings.add(Kind.MISSING, f"{statement.where}: no proof for its tree of {statement.size} entries")
    _same_size(statements, findings)
    return [statement.signed() for statement in agreeing]


def _altered(statement: Statement, tree: Tree, agreeing: Sequence[Statement], findings: Findings) -> None:
    below = max((s.size for s in agreeing if s.size < statement.size), default=0)
    first, last = max(below, tree.first), min(statement.size, tree.end) - 1
    detail = f"{statement.where}: the leaf hashes are not those of the tree that it signs"
    findings.add(Kind.ALTERED, detail, *((first, last) if first <= last else ()))


def _same_size(statements: Sequence[Statement], findings: Findings) -> None:
    roots: dict[int, Statement] = {}
    for statement in statements:
        other = roots.setdefault(statement.size, statement)
        if other.checkpoint.root != statement.checkpoint.root:
            findings.add(
                Kind.FORKED, f"{other.where} and {statement.where} sign different trees of {other.size} entries"
            )
