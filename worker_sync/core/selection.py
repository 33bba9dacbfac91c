"""Which tables of a source a pipeline carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.settings_file import Problem, SettingsError, complain
from worker_sync.core.shape import Shape
from worker_sync.core.table_rules import TableRule

if TYPE_CHECKING:
    from worker_sync.core.sections import Pipeline


@dataclass(frozen=True, slots=True)
class Selected:
    """One table of a pipeline: the source's schema, the configured target name, and the shape of what travels."""

    source: TableSchema
    to: str | None
    shape: Shape


def select(pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Selected]:
    """The tables that `pipeline` carries, in name order. A name with a namespace goes before one without, a name
    before patterns, an earlier pattern before a later one. Raises SettingsError for what the tables don't allow."""
    return _select(pipeline, tables, _unmatched(pipeline, tables))


def select_known(pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Selected]:
    """The same of tables that the source may not have any more, so that rules may mean none of them."""
    return _select(pipeline, tables, [])


def _select(pipeline: Pipeline, tables: Sequence[TableSchema], problems: list[Problem]) -> list[Selected]:
    chosen: list[Selected] = []
    for table in sorted(tables, key=lambda table: table.table):
        index = _rule_for(pipeline, table.table)
        if index is not None:
            rule = pipeline.tables[index]
            shape = Shape.of(rule, table)
            at = f"{pipeline.path}.tables[{index}]"
            problems += shape.problems(at, table, all_columns=not rule.is_pattern)
            chosen.append(Selected(table, rule.to, shape))
    if problems:
        raise SettingsError(f"database {pipeline.source!r}", problems)
    return chosen


def matches(rule: TableRule, table: TableName) -> bool:
    """Whether the rule's name or pattern means this table; without a namespace it means those of every namespace."""
    wanted = TableName.parse(rule.name)
    if not rule.is_pattern:
        return wanted == table or (not wanted.namespace and wanted.name == table.name)
    if wanted.namespace and not fnmatchcase(table.namespace, wanted.namespace):
        return False
    return fnmatchcase(table.name, wanted.name)


def carries(pipeline: Pipeline, table: TableName) -> bool:
    """Whether one of the pipeline's rules means this table."""
    return _rule_for(pipeline, table) is not None


def names(pipeline: Pipeline, table: TableName) -> bool:
    """Whether a rule of the pipeline calls this table by its name."""
    return any(not rule.is_pattern and matches(rule, table) for rule in pipeline.tables)


def _rule_for(pipeline: Pipeline, table: TableName) -> int | None:
    rules = pipeline.tables
    order = sorted(range(len(rules)), key=lambda index: (rules[index].is_pattern, "." not in rules[index].name))
    return next((index for index in order if matches(rules[index], table)), None)


def _unmatched(pipeline: Pipeline, tables: Sequence[TableSchema]) -> list[Problem]:
    found = []
    for index, rule in enumerate(pipeline.tables):
        meant = [table.table for table in tables if matches(rule, table.table)]
        at = f"{pipeline.path}.tables[{index}]"
        if not meant:
            what = f"{rule.name!r} matches no table" if rule.is_pattern else f"no table {rule.name!r}"
            known = {str(table.table) if "." in rule.name else table.table.name for table in tables}
            found.append(complain(at, what, rule.name, known))
        elif rule.to is not None and len(meant) > 1:
            found.append(Problem(f"{at}.to", f"{', '.join(map(str, meant))} can't all be {rule.to}; name one of them"))
    return found
