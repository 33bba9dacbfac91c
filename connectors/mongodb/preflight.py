"""What a database must be for `MongoSink` to write to it, as named checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from connectors.base import Finding
from connectors.mongodb.conn import Document
from connectors.mongodb.errors import UNAUTHORIZED, not_a_replica_set, translate
from connectors.mongodb.tables import Tables
from worker_sync.core.errors import ConfigError, Halt
from worker_sync.core.schema import TableSchema

#: The first version whose writes can name their collection's id.
MIN_VERSION: Final = (6, 0)
#: What writing takes; the built-in role readWrite has them all.
ACTIONS: Final = frozenset({"find", "insert", "update", "remove", "createCollection", "listCollections"})


def run_checks(database: Database[Document], where: str, tables: Sequence[TableSchema]) -> list[Finding]:
    try:
        hello = database.command("hello")
    except PyMongoError as error:
        fix = "check address, user and password in the URL"
        return [Finding("reachable", False, str(translate(error, where)), fix)]
    checks: dict[str, Callable[[], Finding]] = {
        "replica-set": lambda: _replica_set(hello, where),
        "version": lambda: _version(database),
        "privileges": lambda: _privileges(database),
        "oplog": lambda: _oplog(database, hello),
    }
    findings = [Finding("reachable", True, f"{where} answers")]
    findings += [_guarded(name, check, where) for name, check in checks.items()]
    return findings + list(_tables(database, where, tables))


def _guarded(name: str, check: Callable[[], Finding], where: str) -> Finding:
    try:
        return check()
    except PyMongoError as error:
        return Finding(name, None, str(translate(error, where)))


def _replica_set(hello: Mapping[str, Any], where: str) -> Finding:
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return Finding("replica-set", True, f"transactions are there ({hello.get('setName', 'sharded cluster')})")
    halt = not_a_replica_set(where)
    return Finding("replica-set", False, halt.detail, halt.recovery)


def _version(database: Database[Document]) -> Finding:
    info = database.client.server_info()
    ok = tuple(info["versionArray"][:2]) >= MIN_VERSION
    needed = ".".join(map(str, MIN_VERSION))
    return Finding("version", ok, f"MongoDB {info['version']} ({needed} or newer)", "" if ok else "upgrade MongoDB")


def _privileges(database: Database[Document]) -> Finding:
    info = database.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    if not info["authenticatedUsers"]:
        return Finding("privileges", True, "the server does not ask who writes")
    held: set[str] = set()
    for privilege in info["authenticatedUserPrivileges"]:
        if _covers(privilege["resource"], database.name):
            held.update(privilege["actions"])
    missing = ACTIONS - held
    if not missing or "anyAction" in held:
        return Finding("privileges", True, f"may read and write {database.name}")
    user = info["authenticatedUsers"][0]
    role = f"{{role: 'readWrite', db: '{database.name}'}}"
    fix = f"db.getSiblingDB('{user['db']}').grantRolesToUser('{user['user']}', [{role}])"
    return Finding("privileges", False, f"no privilege for {', '.join(sorted(missing))} on {database.name}", fix)


def _covers(resource: Mapping[str, Any], name: str) -> bool:
    """Whether the privilege is for the whole database, under its name or under any."""
    return bool(resource.get("anyResource")) or (resource.get("db") in (name, "") and resource.get("collection") == "")


def _oplog(database: Database[Document], hello: Mapping[str, Any]) -> Finding:
    if "setName" not in hello:
        sharded = hello.get("msg") == "isdbgrid"
        return Finding("oplog", None, "each shard has one of its own; look there" if sharded else "there is none")
    oplog = database.client["local"]["oplog.rs"]
    try:
        first = oplog.find_one({}, {"ts": 1}, sort=[("$natural", 1)])
        last = oplog.find_one({}, {"ts": 1}, sort=[("$natural", -1)])
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return Finding("oplog", None, "the user may not read local.oplog.rs", "grant it the role clusterMonitor")
    hours = (last["ts"].time - first["ts"].time) / 3600 if first and last else 0.0
    return Finding("oplog", True, f"covers the last {hours:.1f} hours")


def _tables(database: Database[Document], where: str, tables: Sequence[TableSchema]) -> Iterator[Finding]:
    collections = Tables(database)
    for table in tables:
        name = f"table {table.table}"
        try:
            yield Finding(name, True, f"collection {table.table} {collections.check(table)}")
        except (Halt, ConfigError) as error:
            yield Finding(name, False, error.detail, getattr(error, "recovery", ""))
        except PyMongoError as error:
            yield Finding(name, None, str(translate(error, where)))
