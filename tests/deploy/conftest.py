"""The image, built once from this tree. All of it needs root, and is run by `make test-deploy`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import standins as made
from tests.deploy.composed import Composed, composed
from tests.deploy.engine import ROOT, Engine
from tests.deploy.engine import engine as running_engine
from tests.fixtures.fix_postgres import new_database

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


@pytest.fixture(scope="session")
def standins(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables by which compose.yaml takes images that are made here; `image` has brought their base, too."""
    return {"WORKER_SYNC_IMAGE": image, **made.build(engine, tmp_path_factory.mktemp("standins"))}


@pytest.fixture(scope="module")
def system(engine: Engine, standins: dict[str, str]) -> Iterator[Composed]:
    """What `docker compose up` has started."""
    with composed(engine, standins) as found:
        found.up()
        yield found
