"""`check`: everything that must be true before data can flow, each with what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from connectors.base import Finding
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import mark, print_json
from worker_sync.composition.metrics_check import check_exporter
from worker_sync.composition.preflight import Checked, exit_code, preflight
from worker_sync.composition.workspace import Workspace


def as_document(checked: Sequence[Checked]) -> dict[str, Any]:
    return {
        "ok": exit_code(checked) == 0,
        "checks": [
            {
                "database": one.database,
                "role": one.role,
                "check": finding.check,
                "result": _word(finding),
                "detail": finding.detail,
                "fix": finding.fix,
            }
            for one in checked
            for finding in one.findings
        ],
    }


def _word(finding: Finding) -> str:
    return "unknown" if finding.ok is None else "ok" if finding.ok else "failed"


def print_checked(checked: Sequence[Checked], *, only_bad: bool = False) -> None:
    for one in checked:
        bad = [finding for finding in one.findings if finding.ok is not True]
        shown = bad if only_bad else one.findings
        if shown:
            click.secho(f"{one.database} ({one.role})", bold=True)
        for finding in shown:
            click.echo(f"  {mark(_word(finding)):<8}  {finding.check}: {finding.detail}")
            if finding.ok is not True and finding.fix:
                click.echo(f"            fix: {finding.fix}")


@click.command(epilog="\b\nExamples:\n  worker-sync check -c worker-sync.yaml\n  worker-sync check --json")
@configured
@as_json_option
@click.option("--exporter", metavar="URL", help="Check the running exporter there instead, and that captures report.")
@click.pass_context
def check(ctx: click.Context, as_json: bool, exporter: str | None) -> int:
    """Check every source and target of the configuration. Changes nothing.

    Exit code 1 when a check failed, 3 when one could not run.
    """
    settings = state(ctx).settings()
    if exporter is not None:
        checked = [check_exporter(exporter, settings)]
    else:
        with Workspace(settings) as space:
            checked = preflight(space, list(settings.flows.values()))
    if as_json:
        print_json(as_document(checked))
    else:
        print_checked(checked)
        _conclude(checked, ready="worker-sync status" if exporter else "worker-sync init")
    return exit_code(checked)


def _conclude(checked: Sequence[Checked], ready: str) -> None:
    results = [_word(finding) for one in checked for finding in one.findings]
    counts = ", ".join(f"{results.count(word)} {word}" for word in ("ok", "failed", "unknown") if word in results)
    click.echo(f"{counts}. Next: {ready if set(results) <= {'ok'} else 'mend these, then check again'}")
