"""Transactions that a killed worker left open.

The server keeps the transaction of a client that vanished, with its locks, for transactionLifetimeLimitSeconds (60 by
default); every apply to the same shard would wait for that.
"""

from __future__ import annotations

from typing import Final

from pymongo.database import Database
from pymongo.errors import OperationFailure

from connectors.mongodb.conn import APP_NAME, Document
from connectors.mongodb.errors import UNAUTHORIZED

#: A worker sends one command of a transaction after the other. One that paused for so many seconds is gone or hangs;
#: if it only hangs, the server tells it later that its transaction was undone, and it begins anew.
IDLE_SECONDS: Final = 5.0


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
