"""Asks the broker and every source and target what is in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from connectors.base import Finding
from connectors.ledger.places import opened_anchors
from tasks.ledger import signs
from worker_sync.composition.broker import broker_findings
from worker_sync.composition.workspace import Workspace
from worker_sync.core.clock import skew
from worker_sync.core.errors import Transient
from worker_sync.core.secrets import redact
from worker_sync.core.sections import Pipeline

FAILED: Final = 1
COULD_NOT_RUN: Final = 3
#: The finding about a system that does not answer.
UNREACHABLE: Final = "reachable"

_MEND_URL: Final = "start the server, or correct the URL"
_MEND_LEDGER: Final = "mend what it says, or correct the ledger section"


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings about one database in one role, or about the broker."""

    database: str
    role: str
    findings: Sequence[Finding]


def preflight(space: Workspace, pipelines: Sequence[Pipeline]) -> list[Checked]:
    """All findings about the sources and targets of these pipelines and about the clocks of all, the control store's
    too, and about the broker; a server that can't be reached is a finding. An embedded broker is none of the user's
    concern. Also about what the ledger is signed with and anchored in."""
    limit = space.settings.clock_skew_s
    broker = space.given_broker
    found = [] if broker is None else [Checked("broker", broker.scheme, _ask(partial(broker_findings, broker)))]
    control = _ask(lambda: [clock(space.store.now, limit)])
    found.append(Checked("control", "control store", control))
    if any(finding.check == UNREACHABLE for finding in control):
        return found  # what is known of all the others is in there
    found += _ledger(space)
    for name in dict.fromkeys(pipeline.source for pipeline in pipelines):
        found.append(Checked(name, "source", _ask(partial(_source_findings, space, name))))
    for pipeline in pipelines:
        asked = _ask(partial(_sink_findings, space, pipeline))
        found.append(Checked(pipeline.target, f"target of {pipeline.name}", asked))
    return found


def _ask(findings: Callable[[], Sequence[Finding]], mend: str = _MEND_URL) -> Sequence[Finding]:
    try:
        return findings()
    except Transient as error:
        return [Finding(UNREACHABLE, None, redact(str(error)), mend)]


def _ledger(space: Workspace) -> Iterator[Checked]:
    """About the anchors and the signing key."""
    ledger = space.settings.ledger
    if space.settings.audit or not ledger.has_local_key:
        yield Checked("ledger", "signing key", _ask(lambda: [signs(space.settings)], _MEND_LEDGER))
    with opened_anchors(ledger) as places:
        for place in places:
            yield Checked("ledger", "anchor", _ask(partial(place.findings, ledger.origin), _MEND_LEDGER))


def _source_findings(space: Workspace, name: str) -> Sequence[Finding]:
    source = space.source(name)
    found = source.preflight(space.source_tables(name))
    return [*found, clock(source.now, space.settings.clock_skew_s)]


def _sink_findings(space: Workspace, pipeline: Pipeline) -> Sequence[Finding]:
    sink = space.sink(pipeline.target)
    found = sink.preflight([route.target for route in space.routes(pipeline)])
    return [*found, clock(sink.now, space.settings.clock_skew_s)]


def clock(ask: Callable[[], datetime], limit_s: float) -> Finding:
    """Whether the clock of who is asked agrees with this machine's. Lag is measured across clocks."""
    found = skew(ask)
    fix = "let all machines follow the same time servers (chrony, systemd-timesyncd), or raise clock_skew_s"
    return Finding("clock", not found.exceeds(limit_s), str(found), fix)


def exit_code(checked: Sequence[Checked]) -> int:
    """0 all fine, 1 something failed, 3 something could not run."""
    results = [finding.ok for one in checked for finding in one.findings]
    if False in results:
        return FAILED
    return COULD_NOT_RUN if None in results else 0
