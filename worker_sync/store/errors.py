"""Driver errors of the control store as errors by disposition, without passwords."""

from __future__ import annotations

from typing import Final

import psycopg

from worker_sync.core.errors import ConfigError, Permanent, Transient, Unreachable, WorkerSyncError
from worker_sync.core.secrets import Url, redact


class NotInitialized(ConfigError):
    """The control store is not set up"""


#: Classes of SQLSTATE that pass: connection, rollback and deadlock, resources, operator intervention.
_TRANSIENT: Final = ("08", "40", "53", "55", "57")


def unreachable(url: Url, error: psycopg.Error) -> Unreachable:
    """The connection could not be made."""
    return Unreachable(f"the control store at {url}: {_reason(url, error)}")


def translate(url: Url, error: psycopg.Error) -> WorkerSyncError:
    """What the runtime does with an error of a statement."""
    state = error.sqlstate or ""
    detail = f"control store: {_reason(url, error)}"
    if state in {"42P01", "3F000", "42703"}:
        return NotInitialized("run `worker-sync init`")
    if state == "42501":
        return ConfigError(f"{detail}; run `worker-sync init` as the owner, or grant it")
    if state.startswith(_TRANSIENT):
        return Transient(detail)
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Unreachable(detail)
    return Permanent(detail)


def _reason(url: Url, error: psycopg.Error) -> str:
    text = redact(" ".join(str(error).split()) or type(error).__name__)
    for secret in url.secrets():
        text = text.replace(secret, "***")
    return text
