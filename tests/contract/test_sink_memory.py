"""The in-memory target."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import pytest

from connectors.base import Sink
from connectors.memory import MemorySink
from connectors.memory_store import MemoryDatabase
from tests.contract.sink_contract import SinkContract
from tests.contract.sink_target import SinkTarget
from worker_sync.core.schema import TableSchema


class MemoryTarget(SinkTarget):
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Sink:
        return MemorySink("target", self.url)

    def add_unique(self, table: TableSchema, columns: Sequence[str]) -> None:
        MemoryDatabase.of(self.url).create_table(table, unique=[tuple(columns)])


class TestMemorySink(SinkContract):
    @pytest.fixture
    def target(self) -> Iterator[SinkTarget]:
        url = f"memory://{uuid.uuid4().hex}"
        yield MemoryTarget(url)
        MemoryDatabase.drop(url)
