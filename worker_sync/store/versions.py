"""The definitions that targets have of the source's tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from psycopg.types.json import Jsonb

from worker_sync.core.errors import Fenced
from worker_sync.core.partitions import Partitions
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.store.connection import Connection
from worker_sync.store.queries import queries

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableVersion:
    """One source table of one pipeline.

    `version` is the source's definition that the target has, None for a table that it has not yet. `next` follows it:
    it is there once the pipeline's first shard stands at `place` (a position as text); without a place it was refused,
    and a person has to decide. Changes up to the commit position `since` are older than `version`. `gone`: the source
    has the table no more. `change` is the last change in words, `changed_at` the store's time of it. `partitions` are
    those with whose rows the target is in step. `absent`: no rule of the pipeline means the table now.
    """

    table: TableName
    version: TableSchema | None
    next: TableSchema | None = None
    place: str = ""
    since: str = ""
    gone: bool = False
    change: str = ""
    changed_at: datetime | None = None
    partitions: Partitions | None = None
    absent: bool = False


class TableVersions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, pipeline: str) -> dict[TableName, TableVersion]:
        """What is known of a pipeline's tables, in name order."""
        rows = self._connection.run("table_versions", {"pipeline": pipeline})
        return {found.table: found for found in map(_version, rows)}

    def save(self, pipeline: str, version: TableVersion, token: int) -> None:
        """Replace what is known of one table. Raises Fenced when a capture with a newer token has saved it."""
        if self._connection.one("save_table_version", _parameters(pipeline, version, token)) is None:
            raise _fenced(version, token)

    def save_all(self, pipeline: str, versions: Iterable[TableVersion], token: int) -> None:
        """`save` for several tables, all or nothing: where some of a pipeline's tables are known, the others are new,
        so nobody may ever find some of them."""
        with self._connection.transaction() as transaction:
            for version in versions:
                saved = transaction.execute(
                    queries()["save_table_version"].encode(), _parameters(pipeline, version, token)
                )
                if saved.rowcount == 0:
                    raise _fenced(version, token)


def _parameters(pipeline: str, version: TableVersion, token: int) -> dict[str, Any]:
    return {
        "pipeline": pipeline,
        "table": str(version.table),
        "version": _encoded(version.version),
        "next": _encoded(version.next),
        "place": version.place,
        "since": version.since,
        "gone": version.gone,
        "change": version.change,
        "partitions": _encoded(version.partitions),
        "absent": version.absent,
        "token": token,
    }


def _fenced(version: TableVersion, token: int) -> Fenced:
    return Fenced(f"version of {version.table}: token {token} is not the newest")


def _encoded(known: TableSchema | Partitions | None) -> Jsonb | None:
    return None if known is None else Jsonb(msgspec.to_builtins(known))


def _decoded(data: Any, kind: type[T]) -> T | None:
    return None if data is None else msgspec.convert(data, kind)


def _version(row: dict[str, Any]) -> TableVersion:
    changed_at = row["changed_at"]
    return TableVersion(
        TableName.parse(row["table_name"]),
        _decoded(row["version"], TableSchema),
        _decoded(row["next"], TableSchema),
        row["place"],
        row["since"],
        row["gone"],
        row["change"],
        None if changed_at is None else changed_at.astimezone(UTC),
        _decoded(row["partitions"], Partitions),
        row["absent"],
    )
