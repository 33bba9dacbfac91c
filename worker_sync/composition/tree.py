"""The processes of a configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasks.configuration import VARIABLE
from worker_sync.core.settings import Settings
from worker_sync.supervisor import Spec

#: The order in which they stop: nothing new comes in, what is under way is finished, the rest.
CAPTURE, WORK, LOOK_ON = 0, 1, 2
#: A named state or a wrong configuration; another start would end the same way.
SETTLED: Final = frozenset({1, 2})
WRONG_CONFIGURATION: Final = frozenset({2})

#: One machine's batches are applied or sent again, so a stop needn't wait for what the broker holds.
GRACE_S: Final = 1


def specs(settings: Settings, config: Path) -> list[Spec]:
    """Captures, a worker, beat, the exporter and Flower."""
    environment = {VARIABLE: str(config), "PYTHONUNBUFFERED": "1"}
    found = [
        Spec(
            f"capture {source}",
            _ourselves("capture", source),
            CAPTURE,
            final=SETTLED,
            essential=True,
            environment=environment,
        )
        for source in settings.sources
    ]
    found.append(_role("worker", WORK, environment, f"--grace={GRACE_S}"))
    found.append(_role("beat", WORK, environment))
    found.append(_role("exporter", LOOK_ON, environment))
    if settings.flower.enabled:
        found.append(_role("flower", LOOK_ON, environment))
    return found


def _role(name: str, stage: int, environment: Mapping[str, str], *options: str) -> Spec:
    return Spec(name, _ourselves(name, *options), stage, final=WRONG_CONFIGURATION, environment=environment)


def _ourselves(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker_sync", *arguments]
