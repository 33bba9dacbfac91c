"""One API server for all tests that ask it; each test has a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.cluster import Cluster
from tests.chart.cluster import cluster as running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.namespace()
