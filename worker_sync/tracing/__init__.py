"""Recording spans by OpenTelemetry: the extra `worker-sync[tracing]`. `worker_sync.core.spans` says what they are."""

from __future__ import annotations

import atexit
import os
from typing import Final

from worker_sync.core import spans
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings

#: OpenTelemetry's own switch.
_DISABLED: Final = "OTEL_SDK_DISABLED"


def begin(settings: Settings, role: str) -> None:
    """Record spans from now on if the configuration says so; this process is a `role`. Repeating it changes nothing.
    Raises ConfigError when the extra is not installed."""
    wanted = settings.tracing
    if wanted is None or not wanted.enabled or os.environ.get(_DISABLED, "").strip().lower() == "true":
        return
    if spans.is_on():
        return
    try:
        from worker_sync.tracing.recorder import Recorder
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise ConfigError("tracing: OpenTelemetry is not installed; pip install 'worker-sync[tracing]'") from None
    spans.install(Recorder(wanted, role))
    atexit.register(spans.end)
