"""MySQL and MariaDB as a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from connectors.base import Sink
from connectors.mysql.sink import MysqlSink
from connectors.mysql.sql import names, quote, quote_table
from tests.contract.sink_contract import SinkContract
from tests.contract.sink_target import SinkTarget
from tests.fixtures.fix_mysql import run
from worker_sync.core.schema import Kind, TableSchema


class MysqlTarget(SinkTarget):
    #: NaN and infinities are refused, and MariaDB keeps no sign of zero.
    has_odd_floats = False
    #: Some of their extreme values have no form in MySQL and are refused: NaN and infinities, years before 1 and after
    #: 9999. tests/integration/test_mysql_values.py has them and the others of these kinds.
    without_kinds: ClassVar[frozenset[Kind]] = frozenset(
        {Kind.FLOAT, Kind.DECIMAL, Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}
    )

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> Sink:
        return MysqlSink("target", self.url)

    def add_unique(self, table: TableSchema, columns: Sequence[str]) -> None:
        name = quote_table(table.table)
        for column in columns:
            # A whole text is too long for an index.
            run(self.url, f"ALTER TABLE {name} MODIFY {quote(column)} varchar(200)")
        run(self.url, f"ALTER TABLE {name} ADD UNIQUE ({names(columns)})")


class TestMariadbSink(SinkContract):
    @pytest.fixture
    def target(self, mariadb_target: str) -> SinkTarget:
        return MysqlTarget(mariadb_target)


class TestMysqlSink(SinkContract):
    @pytest.fixture
    def target(self, mysql_target: str) -> SinkTarget:
        return MysqlTarget(mysql_target)
