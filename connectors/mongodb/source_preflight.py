"""What a database must be for `MongoSource` to capture from it, as named checks. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pymongo.database import Database
from pymongo.errors import PyMongoError

from connectors.base import Finding
from connectors.mongodb import registration
from connectors.mongodb.cluster import is_sharded
from connectors.mongodb.collections import STREAMS, has_images, images_statement, listed, obstacle
from connectors.mongodb.conn import Document
from connectors.mongodb.errors import translate
from connectors.mongodb.preflight import NOBODY_ASKED, grant, guarded, lacking, oplog, replica_set, version
from worker_sync.core.schema import TableName

SHARDED: Final = "a sharded cluster can't be a source yet"
#: Reading collections and their changes, of the whole database: a change stream on it needs no less.
READING: Final = frozenset({"find", "changeStream", "listCollections"})
#: Writing the stream's own collection.
WRITING: Final = frozenset({"find", "insert", "update", "remove", "createCollection"})


def run_checks(database: Database[Document], where: str, name: str, tables: Sequence[TableName]) -> list[Finding]:
    """All findings about the database and these collections, for the stream `name`."""
    try:
        hello = database.command("hello")
    except PyMongoError as error:
        fix = "check address, user and password in the URL"
        return [Finding("reachable", False, str(translate(error, where)), fix)]
    checks: dict[str, Callable[[], Finding]] = {
        "replica-set": lambda: _replica_set(hello, where),
        "version": lambda: version(database),
        "privileges": lambda: _privileges(database),
        "oplog": lambda: oplog(database, hello),
        "stream": lambda: _stream(database, name),
    }
    findings = [Finding("reachable", True, f"{where} answers")]
    findings += [guarded(check, run, where) for check, run in checks.items()]
    return findings + _collections(database, where, tables)


def _replica_set(hello: Mapping[str, Any], where: str) -> Finding:
    if is_sharded(hello):
        return Finding("replica-set", False, SHARDED, "use a replica set as the source")
    return replica_set(hello, where)


def _privileges(database: Database[Document]) -> Finding:
    user, missing = lacking(database, {"": READING, STREAMS: WRITING})
    if not missing:
        return Finding("privileges", True, f"may capture {database.name}" if user else NOBODY_ASKED)
    detail = f"no privilege for {', '.join(sorted(missing))} on {database.name} or its collection {STREAMS}"
    return Finding("privileges", False, detail, grant(user, f"{{role: 'readWrite', db: '{database.name}'}}"))


def _stream(database: Database[Document], name: str) -> Finding:
    found = registration.find(database, name)
    return Finding("stream", True, "will be created" if found is None else f"{name} is there")


def _collections(database: Database[Document], where: str, tables: Sequence[TableName]) -> list[Finding]:
    try:
        found = listed(database)
    except PyMongoError as error:
        return [Finding(f"table {table}", None, str(translate(error, where))) for table in tables]
    return [finding for table in tables for finding in _collection(table, found.get(table))]


def _collection(table: TableName, info: Mapping[str, Any] | None) -> Iterator[Finding]:
    check = f"table {table}"
    if info is None:
        yield Finding(check, False, "does not exist", "correct the tables in the config, or create the collection")
        return
    reason = obstacle(info)
    yield Finding(check, not reason, f"it is {reason}" if reason else "exists", "leave it out" if reason else "")
    if not reason:
        yield _images(table, info)


def _images(table: TableName, info: Mapping[str, Any]) -> Finding:
    if has_images(info):
        return Finding(f"images {table}", True, "updates are logged with the document before and after")
    detail = (
        "updates are logged without the document after them: it is looked up as of then, for which the server keeps "
        "old versions for 300 s only (minSnapshotHistoryWindowInSeconds)"
    )
    return Finding(f"images {table}", False, detail, images_statement(str(table)))
