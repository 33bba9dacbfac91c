"""Names and literals, for sessions with NO_BACKSLASH_ESCAPES: a quote is the only character to escape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from worker_sync.core.schema import TableName


def quote(name: str) -> str:
    """An SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def quote_table(table: TableName) -> str:
    """A table's SQL name; without a namespace it is in the connection's database."""
    return f"{quote(table.namespace)}.{quote(table.name)}" if table.namespace else quote(table.name)


#: A namespace that other engines use where the user means none.
_HOME: Final = "public"


def flat(table: TableName) -> TableName:
    """Where a table of another engine lies in a target: all in the URL's database, so a namespace joins the name."""
    if table.namespace in ("", _HOME):
        return TableName("", table.name)
    return TableName("", f"{table.namespace}.{table.name}")


def names(columns: Iterable[str]) -> str:
    return ", ".join(map(quote, columns))


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"


def binary(value: bytes) -> str:
    """A binary string literal. Its bytes travel as they are: `conn.execute` turns surrogate escapes back into bytes."""
    return "_binary'" + value.decode("utf-8", "surrogateescape").replace("'", "''") + "'"
