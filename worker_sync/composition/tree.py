"""The processes of a configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tasks.configuration import VARIABLE
from tasks.queues import QUEUES
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
    """Captures, workers, beat, the exporter and Flower."""
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
    found += [_worker(queues, environment) for queues in worker_queues(settings)]
    found.append(_role("beat", WORK, environment))
    found.append(_role("exporter", LOOK_ON, environment))
    if settings.flower.enabled:
        found.append(_role("flower", LOOK_ON, environment))
    return found


def worker_queues(settings: Settings) -> list[tuple[str, ...] | None]:
    """The queues of each worker (None: all): one worker for everything, but for queues that `workers` gives a pool of
    their own. A queue without tasks needs no worker."""
    used = [row.name for row in QUEUES if row.tasks]
    apart = [name for name in used if name in settings.workers]
    if not apart:
        return [None]
    together = tuple(name for name in used if name not in apart)
    return [(name,) for name in apart] + ([together] if together else [])


def _worker(queues: tuple[str, ...] | None, environment: Mapping[str, str]) -> Spec:
    options = ["worker", f"--grace={GRACE_S}"]
    if queues is None:
        return _spec("worker", WORK, environment, options)
    name = queues[0] if len(queues) == 1 else "rest"
    return _spec(f"worker {name}", WORK, environment, [*options, f"--queues={','.join(queues)}", f"--name={name}"])


def _role(name: str, stage: int, environment: Mapping[str, str]) -> Spec:
    return _spec(name, stage, environment, [name])


def _spec(name: str, stage: int, environment: Mapping[str, str], arguments: Sequence[str]) -> Spec:
    return Spec(name, _ourselves(*arguments), stage, final=WRONG_CONFIGURATION, environment=environment)


def _ourselves(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker_sync", *arguments]
