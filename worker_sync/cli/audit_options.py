"""What the commands of `audit` share: the ledger, the keys, how a check tells how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import click

from connectors.ledger.reader import LedgerReader
from tasks.ledger import ledger_url, trusted_keys
from worker_sync.cli.options import state
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings
from worker_sync.ledger.entries import Progress
from worker_sync.ledger.note import NoteError, Verifier, trusted

keys_option = click.option(
    "--keys",
    "key_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Trust the verifier keys in FILE, one a line, instead of the configured ones.",
)
by_option = click.option("--by", help="Who does it (default: the user of the operating system).")


def user() -> str:
    """Who does it where `--by` is left out. Raises UsageError for a user without a name, as in some containers."""
    try:
        return getuser()
    except (KeyError, OSError, ImportError):
        raise click.UsageError("the operating system has no name for you; give --by NAME") from None


@contextmanager
def opened(ctx: click.Context) -> Iterator[tuple[Settings, LedgerReader]]:
    """The settings and the ledger that a command reads."""
    with Workspace(state(ctx).settings()) as space, LedgerReader(ledger_url(space.settings)) as reader:
        yield space.settings, reader


def keys_in(files: Sequence[Path]) -> list[Verifier]:
    """The verifier keys of files. Raises ConfigError for one that holds something else, or nothing."""
    found: list[Verifier] = []
    for path in files:
        try:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            found += trusted(lines)
        except (NoteError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
        if not lines:
            raise ConfigError(f"{path} holds no verifier key; worker-sync audit keys shows them")
    return found


def trusted_by(settings: Settings, files: Sequence[Path]) -> list[Verifier]:
    """The keys that a command trusts: those of the files, or else the configured ones."""
    return keys_in(files) if files else trusted_keys(settings)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress | None]:
    """Tells a person at a terminal how far it is."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        yield _show
    finally:
        click.echo("\r\033[K", err=True, nl=False)


def _show(what: str, done: int, total: int) -> None:
    width = 30
    filled = width * done // total if total else width
    bar = f"{'#' * filled}{'.' * (width - filled)}"
    click.echo(f"\r\033[K{what} [{bar}] {done:,} of {total:,}", err=True, nl=False)
