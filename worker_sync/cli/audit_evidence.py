"""`audit evidence`: everything about one period for an auditor, and the check of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from connectors.ledger.evidence import Made, Wanted, make_pack
from connectors.ledger.reader import LedgerReader
from tasks.ledger import anchored, ledger_url, signing_key
from worker_sync.cli.audit_options import keys_in, keys_option, progress_bar, trusted_by
from worker_sync.cli.audit_verify import told
from worker_sync.cli.letter_options import MOMENT
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json
from worker_sync.composition.evidence import stated
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.evidence import Period
from worker_sync.ledger.evidence_check import Checked, check_pack
from worker_sync.ledger.findings import MAX_FINDINGS
from worker_sync.ledger.verify import Trust

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit evidence january --from 2026-01-01 --to 2026-02-01\n"
    "  worker-sync audit evidence --check january --keys auditor.keys"
)
@configured
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--from", "since", type=MOMENT, help="Entries recorded then or later: 2026-01-01, or with a time (UTC).")
@click.option("--to", "until", type=MOMENT, help="Entries recorded before then.")
@click.option("--check", is_flag=True, help="Check the pack in DIRECTORY with --keys; no database is needed.")
@keys_option
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=_FILE,
    metavar="NOTE",
    help="A checkpoint that was kept in a second place; without --check beside those of ledger.anchors.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds that each trail has to record what is committed in its source at the call.",
)
@as_json_option
@click.pass_context
def evidence(
    ctx: click.Context,
    directory: Path,
    since: datetime | None,
    until: datetime | None,
    check: bool,
    key_files: Sequence[Path],
    anchor_files: Sequence[Path],
    wait_s: float,
    as_json: bool,
) -> int:
    """Write everything about a period into a new DIRECTORY, signed as a whole: the entries with their proofs, what
    verification finds in them now, counts, gaps, runs of the schedule, and keys.

    Its README.md says how to check it with nothing of ours. A pack is made also where something is wrong, and of a
    period without entries; exit codes are those of `audit verify`. With --check: 10 altered, 11 missing, 12 inserted,
    15 not signed by a key of --keys, or what was wrong already when it was signed.
    """
    notes = [path.read_bytes().decode(errors="surrogateescape") for path in anchor_files]
    if check:
        if not key_files or since or until:
            raise click.UsageError("--check needs --keys, and neither --from nor --to")
        return _told_check(directory, _checked(directory, key_files, notes, quiet=as_json), as_json)
    if since is None or until is None:
        raise click.UsageError("name the period with --from and --to, or --check a pack")
    period = Period(since, until)
    with Workspace(state(ctx).settings()) as space:
        settings = space.settings
        trust = Trust(trusted_by(settings, key_files), [*notes, *anchored(settings)], settings.ledger.origin)
        wanted = Wanted(settings.ledger.origin, period, trust, [signing_key(settings)])
        with LedgerReader(ledger_url(settings)) as reader, progress_bar(quiet=as_json) as progress:
            made = make_pack(reader, directory, wanted, lambda: stated(space, period, wait_s), progress)
    return _told_made(directory, made, as_json)


def _checked(directory: Path, key_files: Sequence[Path], notes: Sequence[str], *, quiet: bool) -> Checked:
    try:
        with progress_bar(quiet=quiet) as progress:
            return check_pack(directory, keys_in(key_files), notes, progress)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory} can't be read: {error.strerror}") from None


def _told_made(directory: Path, made: Made, as_json: bool) -> int:
    """Print what was made; returns the exit code."""
    manifest = made.manifest
    if as_json:
        about = msgspec.to_builtins(manifest) | {"directory": str(directory), "entries": dict(made.facts.entries)}
        print_json({**about, "verification": _counts(made), "exit_code": made.exit_code})
        return made.exit_code
    first, end = manifest.span
    entries = f"entries {first:,} to {end - 1:,}" if end > first else "no entries"
    click.echo(f"{directory}: {entries} of {manifest.origin}, recorded from {manifest.since} to {manifest.until}")
    for name, source in sorted(made.facts.sources.items()):
        click.echo(f"  {name}: {source.entries['change']:,} changes, gaps: {len(source.gaps):,}")
    for where, counts in _counts(made).items():
        found = ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "nothing is wrong"
        click.echo(f"Verification of the {where}: {found}")
    click.echo(f"Next: worker-sync audit evidence --check {directory} --keys FILE")
    return made.exit_code


def _counts(made: Made) -> dict[str, Any]:
    reports = {"export": made.export, "tables": made.tables}
    return {where: {str(kind): count for kind, count in report.counts.items()} for where, report in reports.items()}


def _told_check(directory: Path, checked: Checked, as_json: bool) -> int:
    """Print what became of a pack; returns the exit code."""
    if as_json:
        click.echo(msgspec.json.encode(checked).decode())
        return checked.exit_code
    if (manifest := checked.manifest) is not None:
        signers = ", ".join(checked.signers) or "no trusted key"
        click.echo(f"{directory}: {len(manifest.files):,} files, made at {manifest.made_at}, signed by {signers}")
    for finding in checked.findings:
        click.echo(f"  {finding.kind:<9} {finding.detail}")
    if sum(checked.counts.values()) > MAX_FINDINGS:
        click.echo("  There are more.")
    if not checked.findings:
        click.echo("Every file is as it was signed. Its export:")
    if checked.export is not None:
        told(checked.export, as_json=False)
    return checked.exit_code
