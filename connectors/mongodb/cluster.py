"""What a replica set says of itself: who it is, and how far its log goes.

A commit position is a cluster time as sixteen hex digits, seconds and increment: the time of the oplog entry that
committed. The string order is the order of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bson.codec_options import CodecOptions
from bson.timestamp import Timestamp
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure

from connectors.mongodb.conn import Document
from connectors.mongodb.errors import NAMESPACE_NOT_FOUND, UNAUTHORIZED, not_a_replica_set
from worker_sync.core.errors import Transient

#: From this share of its size on the oplog counts as full: what is written then pushes out what is old.
FULL: Final = 0.9


def identity(database: Database[Document], where: str) -> str:
    """The replica set's or the cluster's id, and the database. A user who may not ask for the id gets the set's name.

    Raises the driver's errors, and Halt for a server that is neither. `where` is the redacted URL.
    """
    return f"{_cluster(database, where)}/{database.name}"


def now(database: Database[Document]) -> datetime:
    """The clock of the member that answers, in UTC, to the millisecond. Raises the driver's errors."""
    hello: Document = database.client.admin.command("hello", codec_options=CodecOptions(tz_aware=True))
    found: datetime = hello["localTime"]
    return found


def _cluster(database: Database[Document], where: str) -> str:
    admin = database.client.admin
    hello = admin.command("hello")
    try:
        if is_sharded(hello):
            version: Document = database.client["config"]["version"].find_one() or {}
            return str(version["clusterId"])
        if "setName" not in hello:
            raise not_a_replica_set(where)
        return str(admin.command("replSetGetConfig")["config"]["settings"]["replicaSetId"])
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return str(hello.get("setName", where))


def is_sharded(hello: Mapping[str, Any]) -> bool:
    return hello.get("msg") == "isdbgrid"


def commit_of(time: Timestamp) -> str:
    return f"{time.time:08x}{time.inc:08x}"


def time_of(commit: str) -> Timestamp:
    return Timestamp(int(commit[:8], 16), int(commit[8:], 16))


def next_commit(commit: str) -> str:
    """The first position behind this one."""
    return f"{int(commit, 16) + 1:016x}"


def head(database: Database[Document]) -> str:
    """The newest position that a majority has: what change streams can deliver."""
    last = database.command("hello").get("lastWrite", {})
    if "majorityOpTime" not in last:
        raise Transient(f"{database.name}: the server knows of no write that a majority has yet")
    return commit_of(last["majorityOpTime"]["ts"])


def end_of_log(database: Database[Document], session: ClientSession) -> str:
    """The primary's newest position. All that was committed before the call is not after it."""
    database.client.admin.command("ping", session=session)
    if session.operation_time is None:
        raise not_a_replica_set(database.name)
    return commit_of(session.operation_time)


def log_left_s(database: Database[Document], commit: str) -> float | None:
    """About how many seconds pass until a full oplog has dropped the entry at a position, if writing goes on as in the
    time that the oplog spans now. None while it is not full, where it can't be asked, and in a sharded cluster, each of
    whose shards has one of its own."""
    oplog = database.client["local"]["oplog.rs"]
    try:
        stats = next(iter(oplog.aggregate([{"$collStats": {"storageStats": {}}}])), None)
        first = oplog.find_one({}, {"ts": 1}, sort=[("$natural", 1)])
    except OperationFailure as error:
        if error.code not in (UNAUTHORIZED, NAMESPACE_NOT_FOUND):
            raise
        return None
    if stats is None or first is None or stats["storageStats"]["size"] < FULL * stats["storageStats"]["maxSize"]:
        return None
    return max(0.0, float(time_of(commit).time - first["ts"].time))
