"""The settings of this process: given by the program that starts, else read from WORKER_SYNC_CONFIG on first use."""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import Final

from worker_sync.core.errors import ConfigError
from worker_sync.core.secrets import Url
from worker_sync.core.settings import Settings, load
from worker_sync.embedded import EmbeddedServers

VARIABLE: Final = "WORKER_SYNC_CONFIG"

_given: list[Settings] = []


def configure(settings: Settings) -> None:
    """Use these settings; must come before the first use of the application's configuration."""
    _given[:] = [settings]


def forget() -> None:
    """Go back to the environment's settings."""
    _given.clear()
    settings_from_environment.cache_clear()


def settings() -> Settings:
    """The settings of this process. Raises ConfigError when there are none."""
    return _given[0] if _given else settings_from_environment()


@cache
def settings_from_environment() -> Settings:
    path = os.environ.get(VARIABLE)
    if not path:
        raise ConfigError(f"no configuration; set {VARIABLE} to the path of the YAML file")
    return load(path)


def broker_url(settings: Settings) -> Url:
    """Where the broker is; without a configured one the embedded Redis, started if need be."""
    return settings.broker or Url(_embedded(str(settings.state_dir), os.getpid()).redis())


def control_url(settings: Settings) -> Url:
    """Where the control store is; without a configured one the embedded PostgreSQL, started if need be."""
    return settings.control or Url(_embedded(str(settings.state_dir), os.getpid()).postgres())


def with_control(settings: Settings) -> Settings:
    """The settings with the control store's address, also where the embedded one serves."""
    return settings if settings.control else settings.model_copy(update={"control": control_url(settings)})


@cache
def _embedded(state_dir: str, process: int) -> EmbeddedServers:
    """The servers of `state_dir`, used until this process ends; a forked child becomes a user of its own."""
    del process
    servers = EmbeddedServers(state_dir).open()
    atexit.register(servers.close)
    return servers
