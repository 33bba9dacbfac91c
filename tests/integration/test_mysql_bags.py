"""What is MySQL's own about tables without a key."""

from __future__ import annotations

import pytest

from connectors.base import Outcome
from connectors.mysql.sink import MysqlSink
from tests.contract.sink_bags import FLOAT, read_bag, take
from tests.contract.sink_target import INT, Script, apply_each, created, fence, insert, table_schema
from worker_sync.core.schema import Column


def test_a_row_with_a_negative_zero_is_found_again(mysql_target: str) -> None:
    """MariaDB, which keeps no sign of zero, refuses it."""
    with MysqlSink("target", mysql_target) as sink:
        sink.prepare()
        bag = created(sink, table_schema("zeros", Column("f", FLOAT), Column("n", INT), key=()))
        fence(sink)
        script = Script(bag)
        script.add(insert((-0.0, 1)), insert((0.0, 2)))
        script.add(take((-0.0, 1)), take((0.0, 2)))
        apply_each(sink, script)
        assert read_bag(sink, bag) == []


@pytest.mark.parametrize("server", ["mariadb_target", "mysql_target"])
def test_a_scan_may_be_left_amid_its_rows(server: str, request: pytest.FixtureRequest) -> None:
    with MysqlSink("target", request.getfixturevalue(server)) as sink:
        sink.prepare()
        bag = created(sink, table_schema("many", Column("n", INT), key=()))
        fence(sink)
        script = Script(bag)
        script.add(*[insert((n,)) for n in range(20_000)])
        assert sink.apply(script.whole()) == Outcome.APPLIED
        with sink.reader() as reader:
            with reader.scan(bag, 10) as scan:
                assert len(scan.chunk().rows) == 10
            assert len(read_bag(sink, bag)) == 20_000
