"""`audit checkpoint`, `audit keys` and `audit export`: what is signed, by whom, and what an auditor takes home."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from connectors.ledger import registry
from connectors.ledger.checkpoints import make_checkpoint
from connectors.ledger.exporting import export_ledger
from connectors.ledger.places import opened_anchors
from tasks.ledger import ledger_url, signing_key
from worker_sync.cli.audit_options import keys_option, opened, progress_bar, trusted_by
from worker_sync.cli.options import as_json_option, configured, state
from worker_sync.cli.output import print_json
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.keys import generate, signer_from_file, write_key


@click.command(epilog="\b\nExamples:\n  worker-sync audit checkpoint\n  worker-sync audit checkpoint --also next.key")
@configured
@click.option(
    "--also",
    "more_keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Sign with this private key, too: while one key takes over from another.",
)
@click.option("--force", is_flag=True, help="Sign also when nothing was appended since the newest checkpoint.")
@as_json_option
@click.pass_context
def checkpoint(ctx: click.Context, more_keys: Sequence[Path], force: bool, as_json: bool) -> int:
    """Sign the ledger's tree now, and write the checkpoint into each of ledger.anchors. Beat does it regularly.

    Signs only what begins with all that was signed before: exit code 14, and no signature, when it doesn't. Exit code 3
    when the checkpoint stands but an anchor can't be written; the next run writes what is missing.
    """
    with Workspace(state(ctx).settings()) as space:
        settings = space.settings
        signers = [signing_key(settings), *(signer_from_file(path) for path in more_keys)]
        ledger = settings.ledger
        with opened_anchors(ledger) as places:
            made = make_checkpoint(ledger_url(settings), ledger.origin, signers, places, force=force)
    tree = made.checkpoint
    if as_json:
        shown = {"origin": tree.origin, "size": tree.size, "time": tree.time, "new": made.is_new}
        print_json({**shown, "anchored": made.anchored, "keys_added": made.keys_added, "note": made.note})
        return 0
    if made.is_new:
        click.echo(f"{tree.origin}: signed {tree.size:,} entries at {tree.time}.")
    else:
        click.echo(f"{tree.origin}: nothing was appended since {tree.size:,} entries were signed at {tree.time}.")
    if ledger.anchors:
        click.echo(f"Notes written into anchors: {made.anchored}")
    for key in made.keys_added:
        click.echo(f"This key signs for the first time; give it to your auditor: {key}")
    return 0


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit export export-2026-01\n"
    "  worker-sync audit export part --first 1000 --end 2000"
)
@configured
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--first", type=click.IntRange(min=0), default=0, help="From this entry on.")
@click.option("--end", type=click.IntRange(min=0), help="Up to, not including, this entry (default: all).")
@keys_option
@as_json_option
@click.pass_context
def export(
    ctx: click.Context, directory: Path, first: int, end: int | None, key_files: Sequence[Path], as_json: bool
) -> int:
    """Write entries, leaf hashes, proofs, checkpoints and public keys into a new DIRECTORY.

    Who has it and the public key needs no database: `audit verify --offline`, or examples/verify_ledger.py, which uses
    nothing of ours. Nothing is mended on the way: what is wrong in the ledger is wrong in its export.
    """
    with opened(ctx) as (settings, reader), progress_bar(quiet=as_json) as progress:
        keys = trusted_by(settings, key_files)
        origin = settings.ledger.origin
        made = export_ledger(reader, directory, origin, keys, (first, end), progress=progress)
    if as_json:
        print_json({"directory": str(directory), "origin": made.origin, "first": made.first, "end": made.end})
        return 0
    span = f" --range {made.first} {made.end}" if first or end is not None else ""
    click.echo(f"{directory}: entries {made.first:,} to {made.end - 1:,} of {made.origin}")
    click.echo(f"Next: worker-sync audit verify --offline {directory} --keys FILE{span}")
    return 0


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  worker-sync audit keys > auditor.keys\n"
    "  worker-sync audit keys new next.key\n  worker-sync audit keys retire NAME+ID+KEY",
)
@configured
@as_json_option
@click.pass_context
def keys(ctx: click.Context, as_json: bool) -> int | None:
    """Show the verifier key, which auditors have to keep: with it they tell our checkpoints from forged ones.

    With --json also what the ledger says of keys that came and went.
    """
    if ctx.invoked_subcommand is not None:
        return None
    if not as_json:
        click.echo(signing_key(state(ctx).settings()).verifier_key)
        return 0
    with opened(ctx) as (settings, reader):
        known = registry.registered(reader)
        own = signing_key(settings).verifier_key
    registered = [{"key": key.verifier_key, "added": key.added, "retired": key.retired} for key in known]
    print_json({"key": own, "registered": registered})
    return 0


@keys.command("new", epilog="\b\nExamples:\n  worker-sync audit keys new next.key")
@configured
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The key's name in checkpoints (default: ledger.origin).")
@click.pass_context
def new(ctx: click.Context, file: Path, name: str | None) -> int:
    """Write a new private key into FILE, for its owner alone (0600), and print its verifier key."""
    signer = generate(name or state(ctx).settings().ledger.origin)
    write_key(file, signer)
    click.echo(signer.verifier_key)
    return 0


@keys.command("retire", epilog="\b\nExamples:\n  worker-sync audit keys retire NAME+ID+KEY")
@configured
@click.argument("key")
@click.pass_context
def retire(ctx: click.Context, key: str) -> int:
    """Enter into the ledger that the verifier KEY signs no more. Auditors keep it: it signed what is older."""
    with Workspace(state(ctx).settings()) as space:
        if key == signing_key(space.settings).verifier_key:
            raise ConfigError("this key is the configured one; set ledger.key to the next one first")
        registry.retire(ledger_url(space.settings), key)
    click.echo("The ledger says so from now on. Next: worker-sync audit checkpoint")
    return 0
