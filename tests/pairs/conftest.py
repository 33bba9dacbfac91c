"""Databases of every engine, empty, and the services of a system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.fixtures import fix_mongodb, fix_mysql, fix_postgres
from tests.pairs.documents import MongoLab
from tests.pairs.lab import Lab
from tests.pairs.relational import MysqlLab, PostgresLab

#: By the name of the fixture that gives the server: what makes a database on it, and what works with one.
ENGINES = {
    "postgres": (fix_postgres.new_database, PostgresLab),
    "postgres15": (fix_postgres.new_database, PostgresLab),
    "mariadb": (fix_mysql.new_mysql_database, MysqlLab),
    "mysql": (fix_mysql.new_mysql_database, MysqlLab),
    "mongodb": (fix_mongodb.new_mongo_database, MongoLab),
}


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Lab]]:
    """Makes a lab on the server of that name; the second argument says what for."""
    with ExitStack() as stack:

        def make(server: str, purpose: str) -> Lab:
            new, kind = ENGINES[server]
            lab = kind(stack.enter_context(new(request.getfixturevalue(server), purpose)))
            stack.callback(lab.close)
            return lab

        yield make


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with fix_postgres.new_database(postgres, "control") as url:
        yield url
