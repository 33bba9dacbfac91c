"""Changes of a MySQL or MariaDB source's tables while its rows change, into PostgreSQL and into MySQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.cursors import Cursor

from tests.fixtures import fix_mysql
from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import rig, settings_for
from tests.integration.test_schema_changes import agrees

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE_S = 90
TABLE = "CREATE TABLE items (id int PRIMARY KEY, name varchar(100) NOT NULL, amount int)"
FILL = "INSERT INTO items VALUES " + ", ".join(f"({number}, 'name {number}', {number})" for number in range(1, 301))
CHANGES = {
    "add-with-default": ("ALTER TABLE items ADD COLUMN note varchar(20) NOT NULL DEFAULT 'given'",),
    "add-in-the-middle": ("ALTER TABLE items ADD COLUMN note int NULL AFTER id", "UPDATE items SET note = id + 1"),
    "drop": ("ALTER TABLE items DROP COLUMN amount",),
    "rename": ("ALTER TABLE items CHANGE COLUMN name title varchar(100) NOT NULL",),
    "retype": ("ALTER TABLE items MODIFY COLUMN amount varchar(30)", "UPDATE items SET amount = concat('n', id)"),
    "several": (
        "ALTER TABLE items DROP COLUMN amount, ADD COLUMN price decimal(8,2) NOT NULL DEFAULT 1.5, MODIFY name text",
        "INSERT INTO items (id, name, price) VALUES (9001, 'after', 2.25)",
        "CREATE TABLE more (id int PRIMARY KEY, word varchar(20))",
        "INSERT INTO more VALUES (1, 'first')",
    ),
}


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


DEADLOCK = 1213


class Load(Traffic):
    """Changes rows without naming columns that may go, from a thread."""

    def work(self) -> None:
        with fix_mysql.connect(self.url) as connection, connection.cursor() as cursor:
            while not self.stopping.wait(0.005):
                try:
                    self._change(cursor, self.transactions)
                except pymysql.OperationalError as error:
                    if error.args[0] != DEADLOCK:  # with a change of the table; the next turn goes on
                        raise
                self.transactions += 1

    def _change(self, cursor: Cursor, number: int) -> None:
        cursor.execute("UPDATE items SET id = id + 20000 WHERE id = %s", (100 + number % 100,))
        cursor.execute("UPDATE items SET id = id - 20000 WHERE id = %s", (20100 + number % 100,))
        cursor.execute("DELETE FROM items WHERE id = %s", (200 + number % 100,))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(("server", "target"), [("mariadb", "target_db"), ("mysql", "mariadb_target")])
def test_a_change_is_carried_in_order_with_the_data(
    name: str, server: str, target: str, control_db: str, request: pytest.FixtureRequest
) -> None:
    with fix_mysql.new_mysql_database(request.getfixturevalue(server), "source") as source:
        fix_mysql.run(source, TABLE, FILL)
        settings: Any = settings_for(source, request.getfixturevalue(target), ["*"], schema_changes="apply")
        with rig(settings, control_db) as made:
            made.start()
            eventually(lambda: agrees(made), PATIENCE_S)
            with Load(source) as load:
                load.more()
                fix_mysql.run(source, *CHANGES[name])
                load.more()
            eventually(lambda: agrees(made), PATIENCE_S)
            made.stop()
