"""What verification finds, its words and its exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

#: More findings are only counted, so that a report of a ruined export stays small.
MAX_FINDINGS: Final = 1000


class Kind(StrEnum):
    """Each says one thing about the ledger; docs/reference/ledger-format.md explains them."""

    #: A signed tree contradicts another one, or an anchor.
    FORKED = "forked"
    #: Bytes are not those that the tree has.
    ALTERED = "altered"
    #: The tree, or a trusted checkpoint, has what the export lacks.
    MISSING = "missing"
    #: The export has what the tree has no place for, or has twice.
    INSERTED = "inserted"
    #: An entry stands at another place than its number says.
    MOVED = "moved"
    #: No checkpoint of a trusted key covers it.
    UNSIGNED = "unsigned"
    #: Not covered by a checkpoint yet, and recorded so recently that one is to be expected.
    PENDING = "pending"
    #: Changes may not have been recorded. The entry says so; no failure of integrity.
    GAP = "gap"


#: The exit code of a report is that of the first of its kinds in this order.
EXIT_CODES: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        Kind.FORKED: 14,
        Kind.ALTERED: 10,
        Kind.MISSING: 11,
        Kind.INSERTED: 12,
        Kind.MOVED: 13,
        Kind.UNSIGNED: 15,
        Kind.PENDING: 0,
        Kind.GAP: 0,
    }
)


class Finding(msgspec.Struct, omit_defaults=True):
    """One kind of finding about the entries `first` to `last`, or about none in particular."""

    kind: Kind
    detail: str
    first: int | None = None
    last: int | None = None

    def holds(self, kind: Kind, number: int) -> bool:
        return self.kind is kind and self.first is not None and self.first <= number <= (self.last or 0)


class Findings:
    """Collects findings; those about consecutive entries become one."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.counts: dict[Kind, int] = {}

    def add(self, kind: Kind, detail: str, first: int | None = None, last: int | None = None) -> None:
        """Note a finding about one entry, about those from `first` to `last`, or about none."""
        last = first if last is None else last
        self._count(kind, 1 if first is None or last is None else last - first + 1)
        newest = self.found[-1] if self.found else None
        if newest and (newest.kind, newest.detail) == (kind, detail) and _continues(newest, first):
            newest.last = last
        elif len(self.found) < MAX_FINDINGS:
            self.found.append(Finding(kind, detail, first, last))

    def take(self, kind: Kind, number: int) -> bool:
        """Withdraw the finding about one entry; whether there was one."""
        for at, finding in enumerate(self.found):
            if finding.holds(kind, number):
                self.found[at : at + 1] = _without(finding, number)
                self._count(kind, -1)
                return True
        return False

    def extend(self, other: Findings) -> None:
        for finding in other.found[: MAX_FINDINGS - len(self.found)]:
            self.found.append(finding)
        for kind, count in other.counts.items():
            self._count(kind, count)

    def _count(self, kind: Kind, change: int) -> None:
        count = self.counts.pop(kind, 0) + change
        if count:
            self.counts[kind] = count


class Signed(msgspec.Struct, omit_defaults=True):
    """A checkpoint of a trusted key that the export agrees with."""

    where: str
    size: int
    signers: list[str]
    time: str | None = None


class Report(msgspec.Struct):
    """The outcome of a verification: entries `first` up to, not including, `end` were looked at.

    `counts` has the number of entries, or of other things, by kind; `findings` at most MAX_FINDINGS of them.
    """

    origin: str
    first: int
    end: int
    intact: int
    checkpoints: list[Signed]
    findings: list[Finding]
    counts: dict[Kind, int]
    exit_code: int

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


def exit_code(kinds: Iterable[Kind]) -> int:
    """0 where nothing but gaps and pending entries was found."""
    found = set(kinds)
    return next((code for kind, code in EXIT_CODES.items() if kind in found), 0)


def _continues(finding: Finding, first: int | None) -> bool:
    return first is not None and finding.last is not None and finding.last + 1 == first


def _without(finding: Finding, number: int) -> list[Finding]:
    first, last = finding.first or 0, finding.last or 0
    parts = ((first, number - 1), (number + 1, last))
    return [Finding(finding.kind, finding.detail, low, high) for low, high in parts if low <= high]
