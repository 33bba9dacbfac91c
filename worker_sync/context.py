"""For applications whose changes are audited: who makes the changes of a transaction, and why.

What is said stands in the ledger beside each change (`actor`, `context`). The source's log carries it, so it is there
exactly if the changes are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol

PREFIX: Final = "worker_sync.context"

#: In the log, and for triggers.
_SAY: Final = "SELECT pg_logical_emit_message(true, %s, %s), set_config(%s, %s, true)"


class _Connection(Protocol):
    """What is needed of a psycopg connection."""

    def transaction(self) -> AbstractContextManager[Any]: ...

    def execute(self, query: Any, params: Sequence[Any]) -> Any: ...


@contextmanager
def audited(connection: _Connection, actor: str, **details: str) -> Iterator[None]:
    """A PostgreSQL transaction (a savepoint inside another) whose changes were made by `actor`, with any `details`::

        with audited(connection, "ann@example.com", request="4711", reason="refund"):
            connection.execute("UPDATE orders SET ...")

    The same in SQL, in the transaction and before its changes:
    ``SELECT pg_logical_emit_message(true, 'worker_sync.context', '{"actor": "ann@example.com"}')``, and where audit
    triggers record the changes ``SET LOCAL worker_sync.context = '{"actor": "ann@example.com"}'``. This does both.
    """
    text = _text(actor, details)
    with connection.transaction():
        connection.execute(_SAY, [PREFIX, text, PREFIX, text])
        yield


def comment(actor: str, **details: str) -> str:
    """A comment to begin a statement with, for MySQL (which needs ``binlog_rows_query_log_events=ON``) and MariaDB::

        cursor.execute(comment("ann@example.com", reason="refund") + "UPDATE orders SET ...")

    It holds for the changes behind it, up to the transaction's end or the next such comment.
    """
    # What would end the comment is written as JSON may write it, too.
    text = _text(actor, details).replace("*/", "*\\/").replace("%", "\\u0025")
    return f"/* {PREFIX} {text} */ "


def _text(actor: str, details: dict[str, str]) -> str:
    return json.dumps({"actor": actor, **details})
