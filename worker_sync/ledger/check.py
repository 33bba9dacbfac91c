"""What the verification of an export and that of a ledger's tables have in common: trust, statements, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker_sync.ledger.checkpoint import open_checkpoint
from worker_sync.ledger.findings import Finding, Findings, Kind, Report, Signed, exit_code
from worker_sync.ledger.note import NoteError, Verifier
from worker_sync.ledger.statements import Statement, Tree, judge


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier brings along.

    `anchors` are signed notes from another place than the ledger. `origin` is the log's name; without it, that of the
    newest checkpoint counts.
    """

    keys: Sequence[Verifier]
    anchors: Sequence[str] = ()
    origin: str | None = None


class Check:
    """Collects what is said about one ledger, and what is wrong with it. `what` it is in, for people: "the export"."""

    def __init__(self, what: str, trust: Trust) -> None:
        self.findings = Findings()
        self.statements: list[Statement] = []
        self._what = what
        self._trust = trust
        self._agreeing: list[Signed] = []

    def open(self, where: str, note: str, *, anchor: bool = False) -> Statement | None:
        """A signed note becomes a statement, which is returned, or a finding."""
        try:
            checkpoint, opened = open_checkpoint(note, self._trust.keys)
        except NoteError as error:
            self.findings.add(Kind.UNSIGNED, f"{where}: {error}")
            return None
        signers = tuple(f"{signature.name}+{signature.key_id.hex()}" for signature in opened.verified)
        statement = Statement(where, checkpoint, signers, anchor)
        self.statements.append(statement)
        return statement

    def open_anchors(self) -> None:
        for index, note in enumerate(self._trust.anchors, 1):
            self.open(f"anchor {index}", note, anchor=True)

    def settle_origin(self, said: str | None, where: str) -> str:
        """The log's name; statements about another log say nothing about this one and are dropped, with a finding.
        `where` the ledger calls itself `said`."""
        newest = max((s for s in self.statements if not s.anchor), key=lambda s: s.size, default=None)
        origin = self._trust.origin or (newest.checkpoint.origin if newest else said or "")
        if said is not None and said != origin:
            self.findings.add(Kind.ALTERED, f"{where}: it names another log than {origin}")
        for statement in self.statements:
            if statement.checkpoint.origin != origin:
                self.findings.add(Kind.FORKED, f"{statement.where}: it is of another log than {origin}")
        self.statements = [s for s in self.statements if s.checkpoint.origin == origin]
        return origin

    def check_range(self, first: int, end: int, wanted: tuple[int, int | None]) -> None:
        """Whether the entries that are there, [first, end), are those that are wanted, and are covered by what is
        signed. A wanted end of None stands for the newest checkpoint or anchor."""
        newest = max((statement.size for statement in self.statements), default=0)
        left, right = wanted[0], newest if wanted[1] is None else wanted[1]
        if left < min(first, right):
            self.findings.add(Kind.MISSING, f"left of {self._what}", left, min(first, right) - 1)
        if right > max(end, left):
            self.findings.add(Kind.MISSING, f"right of {self._what}", max(end, left), right - 1)
        if not self.statements:
            self.findings.add(Kind.UNSIGNED, "no checkpoint of a trusted key")
        if max(newest, first) < end:
            self.findings.add(
                Kind.UNSIGNED, "no checkpoint of a trusted key covers the entry", max(newest, first), end - 1
            )

    def judge(self, statements: Sequence[Statement], tree: Tree) -> None:
        """Hold statements against the tree."""
        self._agreeing = judge(statements, tree, self.findings)

    def report(self, origin: str, first: int, end: int, intact: int) -> Report:
        return Report(
            origin=origin,
            first=first,
            end=end,
            intact=intact,
            checkpoints=self._agreeing,
            findings=sorted(self.findings.found, key=_by_place),
            counts=self.findings.counts,
            exit_code=exit_code(self.findings.counts),
        )


def _by_place(finding: Finding) -> tuple[bool, int]:
    """Those about no entry in particular come first."""
    return finding.first is not None, finding.first or 0
