"""MongoDB as a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from pymongo import MongoClient

from connectors.base import Sink
from connectors.mongodb.sink import MongoSink
from tests.contract.sink_contract import SinkContract
from tests.contract.sink_target import SinkTarget
from worker_sync.core.schema import Kind, TableSchema


class MongoTarget(SinkTarget):
    #: Documents have no columns that could be NOT NULL, or missing.
    refuses_nulls = False
    has_columns = False
    #: Their most extreme values have no BSON form and are refused: more than 34 digits, years before 1 and infinite
    #: dates, array bounds, the layout of json. tests/unit/test_mongodb_types.py has theirs.
    without_kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.DECIMAL, Kind.DATE, Kind.JSON, Kind.ARRAY})

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Sink:
        return MongoSink("target", self.url)

    def add_unique(self, table: TableSchema, columns: Sequence[str]) -> None:
        with MongoClient[dict[str, Any]](self.url) as client:
            collection = client.get_default_database()[str(table.table)]
            collection.create_index([(column, 1) for column in columns], unique=True)


class TestMongoSink(SinkContract):
    @pytest.fixture
    def target(self, mongo_target: str) -> SinkTarget:
        return MongoTarget(mongo_target)
