"""`audit personal-keys`: which configured keys open the ledger's personal data, and how one takes over from another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from connectors.ledger import rekeying
from connectors.ledger.key_slots import CONFIGURED, Slot, live
from tasks.ledger import ledger_url, personal_key
from worker_sync.cli.audit_options import by_option, opened, user
from worker_sync.cli.options import as_json_option, configured
from worker_sync.cli.output import print_json, print_table
from worker_sync.core.blocks import SHORTEST_KEY
from worker_sync.core.errors import ConfigError
from worker_sync.core.secrets import MissingSecret, resolve
from worker_sync.core.settings import Settings
from worker_sync.ledger.key_slot import PersonalKey

#: A name and nothing that `${...}` would take for more: a default behind it would be a key on the command line.
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.group(
    "personal-keys",
    epilog="\b\nExamples:\n  worker-sync audit personal-keys list\n"
    "  worker-sync audit personal-keys add --env NEXT_PERSONAL_KEY\n"
    "  worker-sync audit personal-keys remove 3f9a1c0b7d5e2486",
)
@configured
def personal_keys() -> None:
    """The keys that open the ledger's personal data: list, add, remove."""


@personal_keys.command(name="list")
@configured
@as_json_option
@click.pass_context
def list_slots(ctx: click.Context, as_json: bool) -> int:
    """Show the key slots, one for each `ledger.personal_key` that was ever used, and which is the configured one's."""
    with opened(ctx) as (settings, reader):
        slots, own = reader.key_slots(), _own_slot(settings)
    if as_json:
        shown = [{"slot": slot.id, "added_at": slot.added_at, "removed_at": slot.removed_at} for slot in slots]
        print_json({"configured": own, "slots": shown})
        return 0
    if not slots:
        click.echo("No key slots: nothing personal is recorded yet, and the first such change makes one.")
        return 0
    rows = [[slot.id, slot.added_at, slot.removed_at, slot.id == own] for slot in slots]
    print_table(["slot", "added", "removed", "configured"], rows)
    if own is not None and own not in {slot.id for slot in live(slots)}:
        click.echo("ledger.personal_key opens none of them. Next: worker-sync audit personal-keys add", err=True)
    return 0


@personal_keys.command(
    epilog="\b\nExamples:\n  worker-sync audit personal-keys add --env NEXT_PERSONAL_KEY\n"
    "  worker-sync audit personal-keys add --file next.key --by anna\n"
    "  worker-sync audit personal-keys add --env NEXT --existing-file old.key"
)
@configured
@click.option("--env", metavar="NAME", help="The new key is in this environment variable.")
@click.option("--file", type=_FILE, help="The new key is in this file.")
@click.option("--existing-env", metavar="NAME", help="Open with the key in this variable, not the configured one.")
@click.option("--existing-file", type=_FILE, help="Open with the key in this file, not the configured one.")
@by_option
@as_json_option
@click.pass_context
def add(
    ctx: click.Context,
    env: str | None,
    file: Path | None,
    existing_env: str | None,
    existing_file: Path | None,
    by: str | None,
    as_json: bool,
) -> int:
    """Let a new key open the ledger's personal data, beside those that do. `openssl rand -base64 32` makes one.

    It is read from an environment variable or a file, as the configuration reads it, and needs at least 32 characters.
    Set ledger.personal_key to it everywhere before the old key is removed.
    """
    if (env is None) == (file is None) or (existing_env is not None and existing_file is not None):
        raise click.UsageError("give the new key by --env NAME or --file FILE, and no more than one existing one")
    new = _key("--env", env, file)
    given = existing_env is not None or existing_file is not None
    existing = _key("--existing-env", existing_env, existing_file) if given else None
    with opened(ctx) as (settings, _):
        opener, name = (existing, "the existing key") if existing else (_configured(settings), CONFIGURED)
        added = rekeying.add(ledger_url(settings), new, opener, by or user(), name)
    if as_json:
        print_json({"slot": added.slot, "added": added.number is not None, "entry": added.number})
    elif added.number is None:
        click.echo(f"Key slot {added.slot} is there already: nothing was changed.")
    else:
        click.echo(f"Entry {added.number}: key slot {added.slot} was added.")
        click.echo("Next: set ledger.personal_key to the new key, restart the workers, then remove the old slot")
    return 0


@personal_keys.command(
    epilog="\b\nExamples:\n  worker-sync audit personal-keys remove 3f9a1c0b7d5e2486 --dry-run\n"
    "  worker-sync audit personal-keys remove 3f9a1c0b7d5e2486 --by anna"
)
@configured
@click.argument("slot")
@click.option("--dry-run", is_flag=True, help="Only say whether it could be removed.")
@click.option("--force", is_flag=True, help="Also where the configured key does not open another slot.")
@by_option
@as_json_option
@click.pass_context
def remove(ctx: click.Context, slot: str, dry_run: bool, force: bool, by: str | None, as_json: bool) -> int:
    """Remove the key slot SLOT: its key opens nothing any more, and never will again.

    Workers that still have this key go on until they connect anew, and stop then as preflight-failed. The last slot
    stays. Who has the key and an older copy of the control store can still open it.
    """
    number = None
    with opened(ctx) as (settings, reader):
        own = personal_key(settings)
        if dry_run:
            rekeying.check_removal(reader.key_slots(), slot, own, force=force)
        else:
            number = rekeying.remove(ledger_url(settings), slot, own, by or user(), force=force)
        stay = _stay(reader.key_slots(), slot)
    if as_json:
        print_json({"slot": slot, "removed": not dry_run, "entry": number, "stay": stay})
    elif dry_run:
        click.echo(f"Key slot {slot} would be removed; these would stay: {', '.join(stay)}")
    else:
        click.echo(f"Entry {number}: key slot {slot} was removed; these stay: {', '.join(stay)}")
        click.echo("Next: worker-sync audit checkpoint")
    return 0


def _stay(slots: list[Slot], slot: str) -> list[str]:
    return [one.id for one in live(slots) if one.id != slot]


def _own_slot(settings: Settings) -> str | None:
    own = personal_key(settings)
    return None if own is None else own.slot


def _configured(settings: Settings) -> PersonalKey:
    own = personal_key(settings)
    if own is None:
        raise ConfigError("ledger.personal_key is not set; set it, or give --existing-env or --existing-file")
    return own


def _is_unicode(text: str) -> bool:
    """False for what the environment holds in another encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _key(option: str, variable: str | None, file: Path | None) -> PersonalKey:
    """The key in a variable or a file. Errors quote no variable: it might be the key itself, given by mistake."""
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise ConfigError(f"{option} is not the name of an environment variable; put the key into one and name that")
    try:
        text = resolve(f"file:{file}" if variable is None else f"${{{variable}}}", Path.cwd())
    except MissingSecret as error:
        unset = f"the environment variable that {option} names is not set"
        raise ConfigError(unset if variable is not None else str(error)) from None
    if len(text) < SHORTEST_KEY or not _is_unicode(text):
        raise ConfigError(f"a key is UTF-8 of at least {SHORTEST_KEY} characters; openssl rand -base64 32 makes one")
    return PersonalKey(text)
