"""Every page of the documentation, followed as it is written, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.fix_postgres import ROOM, new_database
from tests.fixtures.pages import Reader, blocks, pages
from tests.fixtures.program import ROOT, simple_config
from tests.fixtures.servers import free_port, server_directory, unavailable
from worker_sync.embedded import EmbeddedPostgres, EmbeddedServerFailed, MissingWheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

TABLES = """
    CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL, amount numeric(8, 2));
    INSERT INTO orders VALUES (1, 'lamp', 19.90), (2, 'chair', 75.00);
    CREATE TABLE customers (id uuid PRIMARY KEY, name text NOT NULL, born date, card_number text, profile jsonb);
    INSERT INTO customers VALUES ('0b5c0f58-7a3c-4a51-9d0c-2f6a5f6f7a11', 'Ada', '1815-12-10', '4111', '{"tier": 2}');
    CREATE TABLE order_lines (order_id int, line int, price numeric(8, 2), PRIMARY KEY (order_id, line));
    INSERT INTO order_lines VALUES (1, 1, 19.90);
"""
RUN = {"console", "sh", "python", "sql", "yaml"}
FOLLOWED = [page for page in pages() if any(block.language in RUN for block in blocks(page))]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of these tests' own: pages create roles."""
    with server_directory("pages") as directory:
        postgres = EmbeddedPostgres(directory, {**ROOM, "fsync": "off"})
        try:
            url = postgres.start()
        except (MissingWheel, EmbeddedServerFailed) as error:
            unavailable("PostgreSQL", error)
        try:
            yield url
        finally:
            postgres.stop()


@pytest.fixture
def reader(server: str, mongo_target: str, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Someone with two PostgreSQL databases, a MongoDB, and a configuration that runs `shop-to-reporting`."""
    with (
        new_database(server, "shop") as source,
        new_database(server, "reporting") as target,
        new_database(server, "control") as control,
        server_directory("page") as directory,
    ):
        with psycopg.connect(source) as connection:
            connection.execute(TABLES.encode())
        urls = {"SOURCE_URL": source, "TARGET_URL": target, "MONGO_URL": mongo_target, "REDIS_URL": redis_url}
        if "MYSQL_URL" in request.getfixturevalue("page").read_text(encoding="utf-8"):
            urls["MYSQL_URL"] = request.getfixturevalue("mariadb_target")
        found = Reader(directory, {**urls, "CONTROL_URL": control}, {"9808": free_port()})
        found.use(standard_config(control, redis_url))
        try:
            yield found
        finally:
            found.close()


def standard_config(control: str, broker: str) -> dict[str, Any]:
    document = simple_config("${SOURCE_URL}", "${TARGET_URL}", control=control, broker=broker)
    del document["exporter"]
    return document


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_says_works(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        reader.follow(block)
