"""Transactions that a killed worker left open.

The server keeps the transaction of a client that vanished, with its locks, for transactionLifetimeLimitSeconds (60 by
default); every apply to the same shard would wait for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import pymongo
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from connectors.mongodb.conn import APP_NAME, Document
from connectors.mongodb.errors import UNAUTHORIZED

#: A worker sends one command of a transaction after the other. One that paused for so many seconds is gone or hangs;
#: if it only hangs, the server tells it later that its transaction was undone, and it begins anew.
IDLE_SECONDS: Final = 5.0
#: The same where the connection that brought the last command is closed. Not at once: where there are routers, the
#: connection is theirs, and one that they close says nothing of a worker between two commands.
CLOSED_SECONDS: Final = 1.0

#: For how many seconds another transaction's lock is waited for each time.
TURNS_S: Final = (1.5, 6.0, 7.0, 7.0)

T = TypeVar("T")


def patiently(database: Database[Document], work: Callable[[], T]) -> T:
    """Do `work`, a plain command that waits while a transaction holds its document; one that was abandoned is ended.

    Raises the driver's error when the wait was in vain."""
    *turns, last = TURNS_S
    for seconds in turns:
        try:
            with pymongo.timeout(seconds):
                return work()
        except PyMongoError as error:
            if not error.timeout:
                raise
            end_abandoned(database)
    with pymongo.timeout(last):
        return work()


def end_abandoned(database: Database[Document]) -> int:
    """End our user's abandoned Worker-Sync transactions; returns how many. None where the server does not let us."""
    admin = database.client.admin
    everything = {"$currentOp": {"allUsers": False, "idleSessions": True, "idleConnections": True}}
    try:
        found = list(admin.aggregate([everything, {"$match": {"appName": APP_NAME}}]))
        sessions = _abandoned(found)
        if sessions:
            admin.command({"killSessions": [{"id": session["lsid"]["id"]} for session in sessions]})
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return 0
    return len(sessions)


def _abandoned(operations: list[Document]) -> list[Document]:
    # An idle session names the connection of its last command, open or not; that of everything else is open.
    opened = {one.get("connectionId") for one in operations if one.get("type") == "op"}

    def is_abandoned(session: Document) -> bool:
        closed = "connectionId" in session and session["connectionId"] not in opened
        idle_s: float = session["transaction"].get("timeInactiveMicros", 0) / 1_000_000
        return idle_s >= (CLOSED_SECONDS if closed else IDLE_SECONDS)

    return [
        one for one in operations if one.get("type") == "idleSession" and "transaction" in one and is_abandoned(one)
    ]
