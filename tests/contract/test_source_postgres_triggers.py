"""PostgreSQL captured by triggers joins the source suite, and leaves nothing of it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
import pytest

from connectors.base import Source
from connectors.postgres.triggers.install import Installer
from connectors.postgres.triggers.source import TriggerSource
from tests.contract.source_contract import SourceContract
from tests.contract.source_engine import SourceEngine, Writer
from tests.contract.test_source_postgres import PostgresWriter, create_table
from tests.fixtures.fix_postgres import new_database
from worker_sync.core.schema import Kind, TableName


class _TriggerWriter(PostgresWriter):
    def message(self, prefix: str, content: bytes) -> None:
        self.conn.execute("SELECT set_config(%s, %s, true)", (prefix, content.decode()))


class _TriggerEngine(SourceEngine):
    def __init__(self, url: str) -> None:
        self._url = url
        self._tables: list[TableName] = []
        self._install()

    def source(self) -> Source:
        return TriggerSource(self.name, self._url)

    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        self._tables.append(create_table(self._url, name, columns, key))
        self._install()
        return self._tables[-1]

    def _install(self) -> None:
        with Installer(self._url) as installer:
            for step in installer.install_steps(self._tables):
                installer.run(step)

    @contextmanager
    def transaction(self) -> Iterator[Writer]:
        with psycopg.connect(self._url) as conn:
            yield _TriggerWriter(conn)

    def stir(self) -> None:
        with psycopg.connect(self._url) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS unrelated (id int)")
            conn.execute("INSERT INTO unrelated SELECT generate_series(1, 100)")


@pytest.fixture(params=["postgres", pytest.param("postgres15", marks=pytest.mark.long)])
def engine(request: pytest.FixtureRequest) -> Iterator[SourceEngine]:
    with new_database(request.getfixturevalue(request.param), "source") as url:
        yield _TriggerEngine(url)


class TestTriggerSource(SourceContract):
    pass
