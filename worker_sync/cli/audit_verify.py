"""`audit verify`: was anything altered, removed or inserted?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from connectors.ledger.pending import SIGNED_WITHIN, excused
from connectors.ledger.verification import verify_tables
from tasks.ledger import anchored
from worker_sync.cli.audit_options import keys_in, keys_option, opened, progress_bar, trusted_by
from worker_sync.cli.letter_options import DURATION
from worker_sync.cli.options import as_json_option, configured
from worker_sync.ledger.findings import MAX_FINDINGS, Finding, Kind, Report
from worker_sync.ledger.verify import Trust
from worker_sync.ledger.verify import verify as verify_export

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit verify\n"
    "  worker-sync audit verify --from 1000000 --json\n"
    "  worker-sync audit verify --offline export --keys auditor.keys --anchor newest.note"
)
@configured
@click.option(
    "--offline",
    "export",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="EXPORT",
    help="Verify this export instead, with --keys; no database and no configuration is needed.",
)
@keys_option
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=_FILE,
    metavar="NOTE",
    help="A checkpoint that was kept in a second place, beside those of ledger.anchors.",
)
@click.option("--origin", help="The log's name (default: ledger.origin; offline, that of the newest checkpoint).")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Look at the entries from N on. There has to be a checkpoint of N entries: it says what the tree was then, "
    "but what was before is not read, and may have been altered since.",
)
@click.option("--range", "span", nargs=2, type=click.IntRange(min=0), help="Offline: the entries of a part.")
@click.option(
    "--signed-within",
    type=DURATION,
    default=SIGNED_WITHIN,
    show_default="15m",
    help="The newest entries may be as old as that without a checkpoint. Not for exports.",
)
@as_json_option
@click.pass_context
def verify(
    ctx: click.Context,
    export: Path | None,
    key_files: Sequence[Path],
    anchor_files: Sequence[Path],
    origin: str | None,
    first: int,
    span: tuple[int, int] | None,
    signed_within: timedelta,
    as_json: bool,
) -> int:
    """Verify the ledger: every entry against its leaf hash, all hashes against what was signed, and that against
    anchors.

    Reads everything in one snapshot, while others write. Exit code 0, also with gaps of a capture and entries whose
    checkpoint is still to come, or: 14 forked, 10 altered, 11 missing, 12 inserted, 13 moved, 15 unsigned. What was
    rewritten and signed with the right key is found by an anchor alone.
    """
    notes = [path.read_bytes().decode(errors="surrogateescape") for path in anchor_files]
    if export is not None:
        if not key_files or first:
            raise click.UsageError("--offline needs --keys, and --range instead of --from")
        trust = Trust(keys_in(key_files), notes, origin)
        with progress_bar(quiet=as_json) as progress:
            report = verify_export(export, trust, span or (0, None), progress)
        return told(report, as_json)
    if span:
        raise click.UsageError("--range is for an export; see --from")
    with opened(ctx) as (settings, reader), progress_bar(quiet=as_json) as progress:
        notes += anchored(settings)
        trust = Trust(trusted_by(settings, key_files), notes, origin or settings.ledger.origin)
        report = excused(verify_tables(reader, trust, first, progress), reader, signed_within)
    return told(report, as_json)


def told(report: Report, as_json: bool) -> int:
    """Print what was found; returns the exit code."""
    if as_json:
        click.echo(report.to_json().decode())
        return report.exit_code
    looked_at = f"entries {report.first:,} to {report.end - 1:,}" if report.end > report.first else "no entries"
    agreeing = len(report.checkpoints)
    click.echo(f"{report.origin}: {looked_at}, {report.intact:,} intact; checkpoints that agree: {agreeing}")
    for finding in report.findings:
        click.echo(f"  {finding.kind:<9} {_place(finding)}{finding.detail}")
    if sum(report.counts.values()) > MAX_FINDINGS:
        click.echo("  There are more; these are counted below.")
    for kind, count in report.counts.items():
        click.echo(f"{kind}: {count:,}")
    if report.ok:
        click.echo("Nothing was altered, removed or inserted.")
    elif set(report.counts) <= {Kind.UNSIGNED, Kind.PENDING, Kind.GAP}:
        click.echo("Next: worker-sync audit checkpoint, or name the keys that signed with --keys")
    else:
        click.echo("Keep the database as it is. Next: docs/how-to/audit-trail.md, what findings mean")
    return report.exit_code


def _place(finding: Finding) -> str:
    if finding.first is None:
        return ""
    return f"{finding.first}: " if finding.last in (None, finding.first) else f"{finding.first} to {finding.last}: "
