"""The commands."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from worker_sync import __version__
from worker_sync.cli.options import State, configured

#: Command -> module and attribute. Modules are imported when their command is asked for, so that `--help` is quick.
COMMANDS: Final = {
    "demo": "demo:demo",
    "up": "up:up",
    "capture": "roles:capture",
    "worker": "roles:worker",
    "beat": "roles:beat",
    "exporter": "roles:exporter",
    "flower": "roles:flower",
    "probe": "probe:probe",
    "init": "init:init",
    "check": "check:check",
    "config": "config:config",
    "status": "status:status",
    "wait": "wait:wait",
    "verify": "verify:verify",
    "snapshot": "signals:snapshot",
    "pause": "signals:pause",
    "resume": "signals:resume",
    "resync": "signals:resync",
    "schedule": "schedule:schedule",
    "dead-letters": "dead_letters:dead_letters",
    "audit": "audit:audit",
    "completion": "completion:completion",
}


class Commands(click.Group):
    """A group whose commands are listed above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"worker_sync.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from worker_sync.core.settings_file import suggestion

            raise click.UsageError(f"no command {args[0]!r}{suggestion(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nStart here:\n  worker-sync demo\n  worker-sync up -c worker-sync.yaml",
)
@click.version_option(__version__, prog_name="worker-sync")
@configured
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Keep databases in step through Celery, and prove what happened to the data."""
    ctx.ensure_object(State)
