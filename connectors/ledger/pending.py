"""Entries that wait for their checkpoint: where changes keep coming, the newest are never signed yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

from connectors.ledger.reader import LedgerReader
from worker_sync.ledger.findings import Finding, Kind, Report, exit_code

#: Within which an entry has to be signed: many runs of the checkpoint.
SIGNED_WITHIN: Final = timedelta(minutes=15)


def excused(report: Report, reader: LedgerReader, within: timedelta = SIGNED_WITHIN) -> Report:
    """A report of the ledger's tables in which unsigned entries that were recorded less than `within` ago are pending.

    Older ones stay unsigned: then nobody signs, or the newest checkpoints are gone. The age is by the clock of the
    ledger's server and by what the entries say.
    """
    findings = [_excused(finding, reader, within) for finding in report.findings]
    waiting = sum(_entries(finding) for finding in findings if finding.kind is Kind.PENDING)
    if not waiting:
        return report
    counts = {**report.counts, Kind.UNSIGNED: report.counts[Kind.UNSIGNED] - waiting, Kind.PENDING: waiting}
    counts = {kind: count for kind, count in counts.items() if count}
    return msgspec.structs.replace(report, findings=findings, counts=counts, exit_code=exit_code(counts))


def _excused(finding: Finding, reader: LedgerReader, within: timedelta) -> Finding:
    if finding.kind is not Kind.UNSIGNED or finding.first is None:
        return finding
    age_s = reader.age_s(finding.first)
    if age_s is None or age_s >= within.total_seconds():
        return finding
    return msgspec.structs.replace(finding, kind=Kind.PENDING, detail="its checkpoint is still to come")


def _entries(finding: Finding) -> int:
    if finding.first is None:
        return 0
    return (finding.first if finding.last is None else finding.last) - finding.first + 1
