"""A table of orders, small enough to see each row arrive."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.fixtures.eventually import eventually

ARRIVES_S = 60.0


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def create(source: str) -> None:
    run(source, "CREATE TABLE orders (id int PRIMARY KEY, item text); INSERT INTO orders VALUES (1, 'one')")


def arrives(target: str, number: int, item: str) -> None:
    def there() -> bool:
        exists = run(target, "SELECT to_regclass('public.orders')") != [(None,)]
        return exists and run(target, f"SELECT item FROM orders WHERE id = {number}") == [(item,)]

    eventually(there, ARRIVES_S, f"order {number} arrives")
