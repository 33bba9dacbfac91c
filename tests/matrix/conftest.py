"""Source databases with the table of samples, read once a session, and empty target databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeAlias

import pytest

from tests.fixtures import fix_mongodb, fix_mysql, fix_postgres
from tests.matrix.sources import MariadbBed, MongoBed, MysqlBed, PostgresBed, Read, SourceBed
from tests.matrix.targets import MariadbTarget, MongoTarget, MysqlTarget, PostgresTarget, TargetBed

NewDatabase: TypeAlias = Callable[[str, str], AbstractContextManager[str]]

#: By the name of the fixture that gives the server.
SOURCES: dict[str, tuple[NewDatabase, type[SourceBed]]] = {
    "postgres": (fix_postgres.new_database, PostgresBed),
    "mariadb": (fix_mysql.new_mysql_database, MariadbBed),
    "mysql": (fix_mysql.new_mysql_database, MysqlBed),
    "mongodb": (fix_mongodb.new_mongo_database, MongoBed),
}
TARGETS: dict[str, tuple[NewDatabase, type[TargetBed]]] = {
    "postgres": (fix_postgres.new_database, PostgresTarget),
    "mariadb": (fix_mysql.new_mysql_database, MariadbTarget),
    "mysql": (fix_mysql.new_mysql_database, MysqlTarget),
    "mongodb": (fix_mongodb.new_mongo_database, MongoTarget),
}


@pytest.fixture(scope="session")
def read_from(request: pytest.FixtureRequest) -> Callable[[str], Read]:
    """The samples of the engine on the server of that name, as a source reads them."""
    done: dict[str, Read] = {}

    def read(server: str) -> Read:
        if server not in done:
            new, kind = SOURCES[server]
            # Gone at once: the server may end before what outlives this test.
            with new(request.getfixturevalue(server), "source") as url:
                done[server] = kind(url).read()
        return done[server]

    return read


@pytest.fixture
def make_target(request: pytest.FixtureRequest) -> Iterator[Callable[[str], TargetBed]]:
    """Makes an empty target database on the server of that name."""
    with ExitStack() as stack:

        def make(server: str) -> TargetBed:
            new, kind = TARGETS[server]
            bed = kind(stack.enter_context(new(request.getfixturevalue(server), "target")))
            bed.prepare()
            return bed

        yield make
