"""What a database must be for `MongoSink` to write to it, as named checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
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
NOBODY_ASKED: Final = "the server does not ask who reads and writes"


def run_checks(database: Database[Document], where: str, tables: Sequence[TableSchema]) -> list[Finding]:
    try:
        hello = database.command("hello")
    except PyMongoError as error:
        fix = "check address, user and password in the URL"
        return [Finding("reachable", False, str(translate(error, where)), fix)]
    checks: dict[str, Callable[[], Finding]] = {
        "replica-set": lambda: replica_set(hello, where),
        "version": lambda: version(database),
        "privileges": lambda: privileges(database),
        "oplog": lambda: oplog(database, hello),
    }
    findings = [Finding("reachable", True, f"{where} answers")]
    findings += [guarded(name, check, where) for name, check in checks.items()]
    return findings + list(_tables(database, where, tables))


def guarded(name: str, check: Callable[[], Finding], where: str) -> Finding:
    try:
        return check()
    except PyMongoError as error:
        return Finding(name, None, str(translate(error, where)))


def replica_set(hello: Mapping[str, Any], where: str) -> Finding:
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return Finding("replica-set", True, f"transactions are there ({hello.get('setName', 'sharded cluster')})")
    halt = not_a_replica_set(where)
    return Finding("replica-set", False, halt.detail, halt.recovery)


def version(database: Database[Document]) -> Finding:
    info = database.client.server_info()
    ok = tuple(info["versionArray"][:2]) >= MIN_VERSION
    needed = ".".join(map(str, MIN_VERSION))
    return Finding("version", ok, f"MongoDB {info['version']} ({needed} or newer)", "" if ok else "upgrade MongoDB")


def privileges(database: Database[Document]) -> Finding:
    user, missing = lacking(database, {"": ACTIONS})
    if not missing:
        return Finding("privileges", True, f"may read and write {database.name}" if user else NOBODY_ASKED)
    fix = grant(user, f"{{role: 'readWrite', db: '{database.name}'}}")
    return Finding("privileges", False, f"no privilege for {', '.join(sorted(missing))} on {database.name}", fix)


def lacking(database: Database[Document], needed: Mapping[str, Set[str]]) -> tuple[Document, set[str]]:
    """The user (empty where the server asks for none) and the actions that it lacks. `needed` maps collections to
    actions; the empty name stands for the whole database."""
    info = database.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    if not info["authenticatedUsers"]:
        return {}, set()
    missing: set[str] = set()
    for collection, actions in needed.items():
        held: set[str] = set()
        for privilege in info["authenticatedUserPrivileges"]:
            if _covers(privilege["resource"], database.name, collection):
                held.update(privilege["actions"])
        missing |= set() if "anyAction" in held else actions - held
    return info["authenticatedUsers"][0], missing


def grant(user: Document, role: str) -> str:
    return f"db.getSiblingDB('{user['db']}').grantRolesToUser('{user['user']}', [{role}])"


def _covers(resource: Mapping[str, Any], name: str, collection: str) -> bool:
    """Whether the privilege is for the collection, or the whole database, under its name or under any."""
    if resource.get("anyResource"):
        return True
    return resource.get("db") in (name, "") and resource.get("collection") in ("", collection)


def oplog(database: Database[Document], hello: Mapping[str, Any]) -> Finding:
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
