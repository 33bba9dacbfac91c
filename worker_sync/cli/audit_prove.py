"""`audit prove`: a proof for who holds a checkpoint and not the ledger."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from connectors.ledger.proving import Consistency, Inclusion, prove_consistency, prove_entry
from worker_sync.cli.audit_options import keys_option, opened, trusted_by
from worker_sync.cli.options import as_json_option, configured
from worker_sync.cli.output import print_json

#: The exit code of a proof that doesn't hold is that of `forked`.
FORKED = 14


@click.command(
    epilog="\b\nExamples:\n  worker-sync audit prove 17 --json > entry-17.json\n"
    "  worker-sync audit prove --consistency 1000 2000"
)
@configured
@click.argument("entry", type=click.IntRange(min=0), required=False)
@click.option(
    "--consistency",
    "sizes",
    nargs=2,
    type=click.IntRange(min=0),
    metavar="SIZE1 SIZE2",
    help="Prove that the tree of SIZE2 entries begins with that of SIZE1.",
)
@keys_option
@as_json_option
@click.pass_context
def prove(
    ctx: click.Context, entry: int | None, sizes: tuple[int, int] | None, key_files: Sequence[Path], as_json: bool
) -> int:
    """Prove that ENTRY is in the tree of the newest checkpoint, by some 20 hashes (RFC 6962).

    The JSON has all that a verifier needs but the public key: the entry, the proof, the signed checkpoint. Exit code 14
    when the proof doesn't hold.
    """
    if (entry is None) == (sizes is None):
        raise click.UsageError("give an ENTRY, or --consistency SIZE1 SIZE2")
    with opened(ctx) as (settings, reader):
        keys = trusted_by(settings, key_files)
        if sizes is not None:
            return _consistency(prove_consistency(reader, *sizes, keys), as_json)
        assert entry is not None
        return _inclusion(prove_entry(reader, entry, keys), as_json)


def _inclusion(proof: Inclusion, as_json: bool) -> int:
    if as_json:
        print_json(_texts(proof))
    elif proof.holds:
        click.echo(
            f"Entry {proof.number} is in the tree of {proof.size:,} entries: {len(proof.proof)} hashes prove it."
        )
        click.echo(f"Signed by {', '.join(proof.signers)}{f' at {proof.time}' if proof.time else ''}.")
    else:
        click.echo(f"Entry {proof.number} is NOT in the tree of {proof.size:,} entries that is signed.")
        click.echo("Next: worker-sync audit verify")
    return 0 if proof.holds else FORKED


def _consistency(proof: Consistency, as_json: bool) -> int:
    if as_json:
        print_json(_texts(proof))
    elif proof.holds:
        click.echo(f"The tree of {proof.new:,} entries begins with that of {proof.old:,}: {len(proof.proof)} hashes.")
        signed = ", ".join(map(str, proof.signed)) or "none of them"
        click.echo(f"Signed by a trusted key: {signed}.")
    else:
        click.echo(f"The tree of {proof.new:,} entries does NOT begin with what was signed or stored of {proof.old:,}.")
        click.echo("Next: worker-sync audit verify")
    return 0 if proof.holds else FORKED


def _texts(proof: Inclusion | Consistency) -> dict[str, Any]:
    return {name: _text(getattr(proof, name)) for name in proof.__struct_fields__}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return [_text(one) for one in value] if isinstance(value, list) else value
