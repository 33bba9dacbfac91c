"""One API server for all tests that ask it; each test has a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.cluster import Cluster
from tests.chart.cluster import cluster as running_cluster
from tests.chart.release import Release
from tests.chart.rendering import HELMS


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.namespace()


@pytest.fixture(params=HELMS)
def release(cluster: Cluster, namespace: str, request: pytest.FixtureRequest) -> Release:
    """A release of each Helm, which is not yet there."""
    return Release(cluster, namespace, request.param)
