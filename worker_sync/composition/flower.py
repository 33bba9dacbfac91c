"""Flower as the configuration wants it: its options, and what it must not be started with."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import Flower

#: What a task's line shows; `args` is the summary of its batch.
COLUMNS: Final = "name,args,state,received,runtime,worker,uuid"
#: Variables of Flower's own by which it asks who somebody is.
_ASKING: Final = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")


def options(settings: Flower, host: str, port: int) -> list[str]:
    """Its command line. Raises ConfigError when everybody could open it who was not meant to, and when its file can't
    be written."""
    if not (settings.allow_anonymous or asks(settings, os.environ) or is_own(host)):
        raise ConfigError(
            f"flower would listen on {host or 'every address'} and let everybody in; set flower.user and "
            "flower.password, or flower.host: 127.0.0.1, or flower.allow_anonymous: true"
        )
    found = [f"--address={host}", f"--port={port}", f"--max_tasks={settings.max_tasks}"]
    if "FLOWER_TASKS_COLUMNS" not in os.environ:
        found.append(f"--tasks_columns={COLUMNS}")
    if settings.url_prefix:
        found.append(f"--url_prefix={settings.url_prefix.strip('/')}")
    return found + (_kept(settings) if settings.persistent else [])


def _kept(settings: Flower) -> list[str]:
    assert settings.db is not None
    _check(settings.db)
    interval_ms = round(settings.save_every_s * 1000)
    return ["--persistent=true", f"--db={settings.db}", f"--state_save_interval={interval_ms}"]


def _check(file: Path) -> None:
    """Flower itself would notice at its end, when what it knows is lost."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(file.parent, os.W_OK | os.X_OK)
        reason = "no permission"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if not writable:
        raise ConfigError(
            f"flower.db: {file} can't be written ({reason}); name another, or set flower.persistent: false"
        )


def variables(settings: Flower) -> Mapping[str, str]:
    """Not as arguments, which every user of the machine could read."""
    if settings.user is None or settings.password is None:
        return {}
    return {"FLOWER_BASIC_AUTH": f"{settings.user}:{settings.password.get_secret_value()}"}


def asks(settings: Flower, environment: Mapping[str, str]) -> bool:
    """Whether Flower asks who somebody is."""
    return settings.user is not None or any(environment.get(name) for name in _ASKING)


def is_own(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
