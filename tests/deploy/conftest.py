"""The image, built once from this tree. All of it needs root, and is run by `make test-deploy`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import Engine
from tests.deploy.engine import engine as running_engine
from tests.fixtures.fix_postgres import new_database

ROOT = Path(__file__).parents[2]
#: Made by scripts/test-engine; it goes by the name that the Dockerfile begins with.
BASE = Path("/opt/worker-sync-tests/trixie.tar")
BASE_NAME = "debian:trixie-slim"
IMAGE = "worker-sync:test"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The name of the image."""
    engine.must("import", BASE, BASE_NAME)
    engine.build(IMAGE, ROOT, "--build-arg", "REVISION=tested")
    return IMAGE
