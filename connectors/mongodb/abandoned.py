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


#: How often, and for how many seconds each time, another transaction's lock is waited for.
TURNS: Final = 3
TURN_SECONDS: Final = 7.0

T = TypeVar("T")


def patiently(database: Database[Document], work: Callable[[], T]) -> T:
    """Do `work`, a plain command that waits while a transaction holds its document; one that was abandoned is ended.

    Raises the driver's error when the wait was in vain."""
    for _ in range(TURNS - 1):
        try:
            with pymongo.timeout(TURN_SECONDS):
                return work()
        except PyMongoError as error:
            if not error.timeout:
                raise
            end_abandoned(database)
    with pymongo.timeout(TURN_SECONDS):
        return work()


def end_abandoned(database: Database[Document]) -> int:
    """End our user's idle Worker-Sync transactions; returns how many. None where the server does not let us."""
    admin = database.client.admin
    idle = {
        "type": "idleSession",
        "appName": APP_NAME,
        "transaction.timeInactiveMicros": {"$gte": int(IDLE_SECONDS * 1_000_000)},
    }
    try:
        found = admin.aggregate([{"$currentOp": {"allUsers": False, "idleSessions": True}}, {"$match": idle}])
        sessions = [{"id": operation["lsid"]["id"]} for operation in found]
        if sessions:
            admin.command({"killSessions": sessions})
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return 0
    return len(sessions)
