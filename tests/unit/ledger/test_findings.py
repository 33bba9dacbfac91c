"""Findings are few, whatever was found."""

from __future__ import annotations

from worker_sync.ledger.findings import EXIT_CODES, MAX_FINDINGS, Finding, Findings, Kind


def test_findings_about_consecutive_entries_become_one() -> None:
    findings = Findings()
    for number in (1, 2, 3, 5):
        findings.add(Kind.ALTERED, "x", number)
    assert findings.found == [Finding(Kind.ALTERED, "x", 1, 3), Finding(Kind.ALTERED, "x", 5, 5)]
    assert findings.take(Kind.ALTERED, 2)
    assert not findings.take(Kind.ALTERED, 2)
    assert [(finding.first, finding.last) for finding in findings.found] == [(1, 1), (3, 3), (5, 5)]
    assert findings.counts == {Kind.ALTERED: 3}


def test_a_ruined_export_has_a_short_report() -> None:
    findings = Findings()
    for number in range(0, 4 * MAX_FINDINGS, 2):
        findings.add(Kind.ALTERED, "x", number)
    assert (len(findings.found), findings.counts) == (MAX_FINDINGS, {Kind.ALTERED: 2 * MAX_FINDINGS})


def test_every_kind_has_its_exit_code() -> None:
    assert set(EXIT_CODES) == set(Kind)
    codes = [code for kind, code in EXIT_CODES.items() if kind not in {Kind.GAP, Kind.PENDING}]
    # 1, 2 and 3 are a finding, wrong usage and an unreachable system of the other commands.
    assert len(set(codes)) == len(codes)
    assert min(codes) > 3
