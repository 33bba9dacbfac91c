"""Which tables of a source a pipeline carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.settings_file import Problem, SettingsError, complain

if TYPE_CHECKING:
    from worker_sync.core.settings import Pipeline, TableRule


@dataclass(frozen=True, slots=True)
class Selected:
    """One table of a pipeline: the source's schema, the configured target name, and the columns that stay behind, of
    which this version of the table need not have all."""

    source: TableSchema
    to: str | None
    excluded: tuple[str, ...]


def select(pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Selected]:
    """The tables that `pipeline` carries, in name order. A plain name goes before patterns, an earlier pattern before
    a later one. Raises SettingsError for a table or column that isn't there."""
    problems = _unmatched(pipeline, tables)
    chosen: list[Selected] = []
    for table in sorted(tables, key=lambda table: table.table):
        index = _rule_for(pipeline, table.table)
        if index is not None:
            rule = pipeline.tables[index]
            problems += _bad_columns(f"pipelines.{pipeline.name}.tables[{index}].columns.exclude", rule, table)
            chosen.append(Selected(table, rule.to, rule.excluded))
    if problems:
        raise SettingsError(f"database {pipeline.source!r}", problems)
    return chosen


def matches(rule: TableRule, table: TableName) -> bool:
    """Whether the rule's name or pattern means this table."""
    wanted = TableName.parse(rule.name)
    if not rule.is_pattern:
        return wanted == table
    return fnmatchcase(table.namespace, wanted.namespace) and fnmatchcase(table.name, wanted.name)


def carries(pipeline: Pipeline, table: TableName) -> bool:
    """Whether one of the pipeline's rules means this table."""
    return _rule_for(pipeline, table) is not None


def names(pipeline: Pipeline, table: TableName) -> bool:
    """Whether a rule of the pipeline calls this table by its name."""
    return any(not rule.is_pattern and matches(rule, table) for rule in pipeline.tables)


def _rule_for(pipeline: Pipeline, table: TableName) -> int | None:
    order = sorted(range(len(pipeline.tables)), key=lambda index: pipeline.tables[index].is_pattern)
    return next((index for index in order if matches(pipeline.tables[index], table)), None)


def _unmatched(pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Problem]:
    names = [str(table.table) for table in tables]
    found = []
    for index, rule in enumerate(pipeline.tables):
        if not any(matches(rule, table.table) for table in tables):
            what = f"{rule.name!r} matches no table" if rule.is_pattern else f"no table {rule.name!r}"
            found.append(complain(f"pipelines.{pipeline.name}.tables[{index}]", what, rule.name, names))
    return found


def _bad_columns(path: str, rule: TableRule, table: TableSchema) -> list[Problem]:
    found = []
    for name in rule.excluded:
        if name in table.key:
            found.append(Problem(path, f"{name!r} belongs to the key of {table.table}; a key can't be left out"))
        elif name not in table.column_names and not rule.is_pattern:
            found.append(complain(path, f"{table.table} has no column {name!r}", name, table.column_names))
    return found
