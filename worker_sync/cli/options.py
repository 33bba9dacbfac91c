"""Options that many commands share, and what they set."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings, load

CONFIG_VARIABLE: Final = "WORKER_SYNC_CONFIG"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True)
class State:
    """What the options of one command line say."""

    config: Path | None = None
    debug: bool = False

    @property
    def config_path(self) -> Path:
        """The configuration file. Raises ConfigError when none was named."""
        named = self.config or os.environ.get(CONFIG_VARIABLE)
        if not named:
            raise ConfigError(f"no configuration file; give --config FILE or set {CONFIG_VARIABLE}")
        return Path(named).absolute()

    def settings(self) -> Settings:
        """The configuration; the file is named in the environment too, for what starts later."""
        path = self.config_path
        settings = load(path)
        os.environ[CONFIG_VARIABLE] = str(path)
        return settings


def state(ctx: click.Context) -> State:
    return ctx.ensure_object(State)


def _set_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        state(ctx).config = value


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        state(ctx).debug = True


def configured(function: Function) -> Function:
    """--config and --debug, understood before and after the command's name."""
    config = click.option(
        "-c",
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_set_config,
        help=f"The configuration file (default: ${CONFIG_VARIABLE}).",
    )
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks of errors."
    )
    return config(debug(function))


def listening(function: Function) -> Function:
    """--host and --port: where a container's process listens is the deployment's matter, not the configuration's."""
    host = click.option("--host", help="Address to listen on, instead of the configuration's.")
    port = click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of the configuration's.")
    return host(port(function))


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _complete_pipeline(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    try:
        settings = state(ctx.find_root()).settings()
    except ConfigError:
        return []
    return [name for name in settings.flows if name.startswith(incomplete)]


pipeline_argument = click.argument("pipeline", shell_complete=_complete_pipeline)
