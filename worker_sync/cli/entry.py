"""Runs a command and turns whatever ends it into one line and an exit code.

0 fine · 1 a finding · 2 usage or configuration · 3 a system could not be reached · 70 a bug of ours · 130 interrupted
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final, NoReturn

import click

from worker_sync.cli.app import cli
from worker_sync.core.errors import WorkerSyncError
from worker_sync.core.secrets import redact

PROGRAM: Final = "worker-sync"
INTERRUPTED: Final = 130
BUG: Final = 70


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    debug = "--debug" in arguments
    try:
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except WorkerSyncError as error:
        _explain(error, debug=debug)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last place where it can be said what happened
        _explain(error, debug=debug)
        click.echo("This is a bug of Worker-Sync. Run the command again with --debug and report the output.", err=True)
        return BUG


def _explain(error: Exception, *, debug: bool) -> None:
    if debug:
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
        return
    text = str(error) if isinstance(error, WorkerSyncError) else f"{type(error).__name__}: {error}"
    click.echo(redact(f"{PROGRAM}: {text}"), err=True)


def _reader_left() -> int:
    """Who reads our output has seen enough, as `| head` does; the interpreter must not fail on its last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
