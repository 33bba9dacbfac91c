"""PostgreSQL, MariaDB and MySQL, told apart by a few words of SQL."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, ClassVar

import psycopg

from tests.fixtures import fix_mysql
from tests.pairs.documents import row_of_json
from tests.pairs.lab import Lab, Rows, Step

CREATE = (
    "CREATE TABLE items (id bigint PRIMARY KEY, name {text}, amount numeric(12,2), body {long_text})",
    "CREATE TABLE tags (item bigint NOT NULL, label {text} NOT NULL, note {text}, PRIMARY KEY (item, label))",
)
#: A step's statement. `{ignore}` and `{twice}` are the engine's words for a key that is taken.
STATEMENTS = {
    "insert": "INSERT {ignore} INTO items VALUES (%(id)s, %(text)s, %(amount)s, %(body)s) {or_nothing}",
    "update": "UPDATE items SET name = %(text)s, amount = %(amount)s WHERE id = %(id)s",
    "body": "UPDATE items SET body = %(body)s WHERE id = %(id)s",
    "move": "UPDATE {ignore} items SET id = %(other)s, name = %(text)s WHERE id = %(id)s {unless_item}",
    "delete": "DELETE FROM items WHERE id = %(id)s",
    "tag": "INSERT INTO tags VALUES (%(id)s, %(label)s, %(text)s) {or_note}",
    "retag": "UPDATE {ignore} tags SET item = %(other)s WHERE item = %(id)s AND label = %(label)s {unless_tag}",
    "untag": "DELETE FROM tags WHERE item = %(id)s AND label = %(label)s",
}
SELECT = {"items": "SELECT id, name, amount, body FROM items", "tags": "SELECT item, label, note FROM tags"}
DOCUMENTS = "SELECT document FROM {table}"

Execute = Callable[[str, dict[str, Any]], Any]


class RelationalLab(Lab):
    words: ClassVar[dict[str, str]]

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Execute]:
        """A function that executes statements of one transaction."""

    @abstractmethod
    def _all(self, query: str) -> list[tuple[Any, ...]]: ...

    def create(self) -> None:
        with self._transaction() as execute:
            for statement in CREATE:
                execute(statement.format(**self.words), {})

    def fill(self, ids: Sequence[int]) -> None:
        with self._transaction() as execute:
            for number in ids:
                values = {"id": number, "text": "old", "amount": Decimal(number), "body": "old " * (1 + number % 50)}
                execute(STATEMENTS["insert"].format(**self.words), values)
                if number % 4:
                    execute(STATEMENTS["tag"].format(**self.words), {"id": number, "label": "a", "text": "old"})

    def transaction(self, steps: Sequence[Step]) -> None:
        with self._transaction() as execute:
            for step in steps:
                values = {
                    "id": step.id, "other": step.other, "label": step.label,
                    "text": step.text, "amount": step.amount, "body": step.body,
                }  # fmt: skip
                execute(STATEMENTS[step.kind].format(**self.words), values)

    def rows(self, table: str, *, of_documents: bool) -> Rows:
        if of_documents:
            return self._documents(table)
        width = 1 if table == "items" else 2
        found = (tuple(map(_plain, row)) for row in self._all(SELECT[table]))
        return {row[:width]: row[width:] for row in found}

    def _documents(self, table: str) -> Rows:
        return dict(row_of_json(table, json.loads(_text(row[0]))) for row in self._all(DOCUMENTS.format(table=table)))


class PostgresLab(RelationalLab):
    selects = ("public.*",)
    words: ClassVar[dict[str, str]] = {
        "text": "text",
        "long_text": "text",
        "ignore": "",
        "or_nothing": "ON CONFLICT DO NOTHING",
        "or_note": "ON CONFLICT (item, label) DO UPDATE SET note = excluded.note",
        "unless_item": "AND NOT EXISTS (SELECT FROM items WHERE id = %(other)s)",
        "unless_tag": "AND NOT EXISTS (SELECT FROM tags WHERE item = %(other)s AND label = %(label)s)",
    }

    def _transaction(self) -> AbstractContextManager[Execute]:
        return _PostgresTransaction(self.url)

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()


class _PostgresTransaction:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def __enter__(self) -> Execute:
        return lambda statement, values: self._connection.execute(statement.encode(), values or None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._connection:
            if kind is not None:
                self._connection.rollback()


class MysqlLab(RelationalLab):
    selects = ("*",)
    words: ClassVar[dict[str, str]] = {
        "text": "varchar(100)",
        "long_text": "longtext",
        "ignore": "IGNORE",
        "or_nothing": "",
        "or_note": "ON DUPLICATE KEY UPDATE note = VALUES(note)",
        "unless_item": "",
        "unless_tag": "",
    }

    def _transaction(self) -> AbstractContextManager[Execute]:
        return _MysqlTransaction(self.url)

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return fix_mysql.run(self.url, query)


class _MysqlTransaction:
    def __init__(self, url: str) -> None:
        self._connection = fix_mysql.connect(url)
        self._connection.begin()
        self._cursor = self._connection.cursor()

    def __enter__(self) -> Execute:
        return lambda statement, values: self._cursor.execute(statement, values)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.commit()
        finally:
            self._connection.close()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
