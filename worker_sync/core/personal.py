"""What the configuration says of personal data in an audit trail: which columns, and whose data they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from worker_sync.core.blocks import Block
from worker_sync.core.schema import TableName, TableSchema
from worker_sync.core.selection import carries
from worker_sync.core.settings_file import Problem, complain
from worker_sync.core.table_rules import PATTERN_CHARACTERS, ColumnName, ColumnNames

if TYPE_CHECKING:
    from worker_sync.core.sections import Pipeline


class PersonalTable(Block):
    """`columns` of a table are encrypted in the ledger with a key of the person whom the value of the column `subject`
    names. `subject` itself stands there as it is unless it is one of `columns`. Tables with the same `namespace`
    (their own name unless it is given) mean the same person by the same value."""

    subject: ColumnName
    columns: ColumnNames
    namespace: Annotated[str, StringConstraints(min_length=1)] | None = None

    @model_validator(mode="after")
    def _names_each_once(self) -> PersonalTable:
        if len(set(self.columns)) != len(self.columns):
            raise PydanticCustomError("personal", "columns names one twice; remove it")
        return self


def declaration(declared: Mapping[str, PersonalTable], table: TableName) -> str | None:
    """The name under which a table is declared: its own, or that without a namespace, which means every one."""
    return next((name for name in (str(table), table.name) if name in declared), None)


def contradictions(trail: Pipeline, declared: Mapping[str, PersonalTable]) -> Iterator[Problem]:
    """What of a trail's declarations contradicts itself or the trail's tables."""
    for name, personal in declared.items():
        at = f"{trail.path}.personal_data.{name}"
        if not all(name.split(".", 1)) or not PATTERN_CHARACTERS.isdisjoint(name):
            yield Problem(at, "is no table's name; write namespace.name")
            continue
        table = TableName.parse(name)
        if table.namespace and not carries(trail, table):
            yield Problem(at, "is not one of the trail's tables")
        for rule in (rule for rule in trail.tables if rule.name == name and rule.columns is not None):
            assert rule.columns is not None
            left_out = {*(rule.columns.exclude or ())} & {personal.subject, *personal.columns}
            for column in sorted(left_out):
                yield Problem(at, f"{column!r} is excluded from the trail; remove one of the two")


def unknown_tables(
    trail: Pipeline, declared: Mapping[str, PersonalTable], tables: Sequence[TableSchema]
) -> list[Problem]:
    """Declarations that mean none of the source's tables: what was meant would be recorded in plain text."""
    meant = {declaration(declared, schema.table) for schema in tables}
    known = {str(schema.table) for schema in tables}
    return [
        complain(f"{trail.path}.personal_data.{name}", f"no table {name!r}", name, known)
        for name in declared
        if name not in meant
    ]
