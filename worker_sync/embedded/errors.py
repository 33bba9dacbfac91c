"""What can go wrong with an embedded server."""

from __future__ import annotations

from worker_sync.core.errors import ConfigError, Unreachable


class MissingWheel(ConfigError):
    """Embedded server not installed"""


class MissingProgram(ConfigError):
    """Server not installed"""


class EmbeddedServerFailed(Unreachable):
    """Embedded server failed"""
