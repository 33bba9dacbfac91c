"""`completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="\b\nExamples:\n"
    "  worker-sync completion bash > ~/.local/share/bash-completion/completions/worker-sync\n"
    "  worker-sync completion fish > ~/.config/fish/completions/worker-sync.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "worker-sync", "_WORKER_SYNC_COMPLETE").source())
