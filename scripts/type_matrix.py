"""The page docs/reference/types.md: what the engines say of their types, see `connectors.matrix`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from connectors.matrix import Extreme, SourceType, TargetType
from connectors.mongodb import matrix as mongodb
from connectors.mongodb.source_types import SOURCE_TYPES as MONGODB_TYPES
from connectors.mysql import matrix as mysql
from connectors.mysql.source_types import SOURCE_TYPES as MYSQL_TYPES
from connectors.postgres import matrix as postgres
from worker_sync.core.schema import Type

#: Heading, name of the engine, its types.
SOURCES: tuple[tuple[str, str, Iterable[SourceType]], ...] = (
    ("PostgreSQL", "postgresql", postgres.SOURCE_TYPES),
    ("MySQL and MariaDB", "mysql", MYSQL_TYPES),
    ("MongoDB", "mongodb", MONGODB_TYPES),
)
TARGETS: tuple[tuple[str, Callable[[Type, str], TargetType]], ...] = (
    ("PostgreSQL", postgres.describe),
    ("MySQL, MariaDB", mysql.describe),
    ("MongoDB", mongodb.describe),
)


def lines() -> Iterator[str]:
    """A section for every source, with a table of its types."""
    for heading, engine, types in SOURCES:
        yield f"## From {heading}"
        yield ""
        yield f"| type | canonical | {' | '.join(f'in {title}' for title, _ in TARGETS)} |"
        yield "| --- | --- |" + " --- |" * len(TARGETS)
        for source in types:
            cells = (_cell(source, describe(source.type, engine)) for _, describe in TARGETS)
            yield f"| {_source(source)} | `{source.type.kind}` | {' | '.join(cells)} |"
        yield ""


def _source(source: SourceType) -> str:
    return f"`{source.declaration}`" + (f", {source.server}" if source.server else "")


def _cell(source: SourceType, target: TargetType) -> str:
    refused = [_refusal(extreme, target) for extreme in Extreme if extreme in source.extremes & target.refuses]
    verdict = f"refuses {', '.join(refused)}" if refused else "exact"
    kind = "parsed, " if target.parsed else ""
    note = f" {target.note}" if target.note else ""
    return f"`{target.name}`{note}: {kind}{verdict}"


def _refusal(extreme: Extreme, target: TargetType) -> str:
    server = target.only.get(extreme)
    return f"{extreme} ({server})" if server else str(extreme)
