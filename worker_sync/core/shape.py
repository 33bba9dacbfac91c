"""The shape of what travels of a table: its rows filtered, its values masked, its columns chosen and renamed.

`Shape` is what a rule says, `Shaper` what that means for one version of a table. The steps, in this order: columns are
made of a collection's documents, rows are filtered by their clear values, columns are chosen and masked. Renaming
concerns names only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

import msgspec

from worker_sync.core import masks
from worker_sync.core.documents import DOCUMENT, Unfolding
from worker_sync.core.errors import Halt, State, Unrepresentable
from worker_sync.core.filter_syntax import Condition, columns_of
from worker_sync.core.filters import Predicate
from worker_sync.core.masks import Masking
from worker_sync.core.schema import Column, Kind, TableSchema
from worker_sync.core.settings_file import Problem, complain
from worker_sync.core.table_rules import Columns, DocumentField, Mask, TableRule
from worker_sync.core.values import UNCHANGED, Row

Pick = Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class Shaper:
    """A shape compiled for one version of a table.

    `table` is what travels: the table's name, and names and types of columns as the target gets them. `origins` are
    the columns' names before renaming. `whole` is the table that is filtered, with all columns in clear. `keeps` says
    whether a row belongs to the pipeline, None where that can't be told; it is None itself when all rows do. `pick`
    makes what travels of such a row; None where that is the row itself.
    """

    table: TableSchema
    origins: tuple[str, ...]
    whole: TableSchema
    unfold: Unfolding | None
    keeps: Callable[[Row], bool | None] | None
    pick: Pick | None

    def unfolded(self, row: Row) -> Row:
        """The row with the columns that filters and masks know. Raises Unrepresentable."""
        return row if self.unfold is None else self.unfold(row)

    def row(self, row: Row) -> Row | None:
        """The row as it travels, given as the source has it, complete; None when it does not belong to the pipeline.
        Raises Unrepresentable."""
        row = self.unfolded(row)
        if self.keeps is not None and not self.keeps(row):
            return None
        return row if self.pick is None else self.pick(row)

    def unfolded_or_none(self, row: Row) -> Row | None:
        """The same for an old row: one that was not as declared counts as not recorded."""
        try:
            return self.unfolded(row)
        except Unrepresentable:
            return None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a rule says of one table. Columns go by the names that they have in the source.

    `numbers` are those of the table's columns by the names that the rule was written for: in a version of the table
    that has a column of that number under another name, the rule means that one.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    where: Condition | None = None
    fields: Mapping[str, DocumentField] = field(default_factory=dict)
    rest: str | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: TableRule, table: TableSchema) -> Shape:
        """What `rule` says of `table`."""
        columns = rule.columns or Columns.model_construct()
        numbers = {column.name: column.number for column in table.columns if column.number}
        return cls(
            columns.include,
            columns.exclude or (),
            columns.rename,
            columns.mask,
            rule.condition,
            rule.fields,
            rule.rest,
            numbers,
        )

    @property
    def guarded(self) -> tuple[str, ...]:
        """The columns whose clear values must not travel."""
        return (*self.exclude, *self.masks)

    def without(self, names: Sequence[str]) -> Shape:
        """The same without some more columns."""
        return replace(self, exclude=(*self.exclude, *names)) if names else self

    @property
    def is_plain(self) -> bool:
        """Everything travels as it is."""
        return replace(self, numbers={}) == Shape()

    def compile(self, source: TableSchema) -> Shaper | None:
        """The shape for this version of its table; None when everything travels as it is.

        A version need not have all columns that the rule names, but those that its filter needs. Raises Halt when the
        rule does not fit.
        """
        if self.is_plain:
            return None
        return self._named_as_in(source)._compile(source)

    def _named_as_in(self, source: TableSchema) -> Shape:
        """The shape with the names that its columns have in this version of the table."""
        by_number = {column.number: column.name for column in source.columns if column.number}

        def now(name: str) -> str:
            return name if name in source.column_names else by_number.get(self.numbers.get(name, 0), name)

        return replace(
            self,
            include=None if self.include is None else tuple(map(now, self.include)),
            exclude=tuple(map(now, self.exclude)),
            rename={now(old): new for old, new in self.rename.items()},
            masks={now(name): mask for name, mask in self.masks.items()},
        )

    def _compile(self, source: TableSchema) -> Shaper:
        problem = next(iter(self.problems("", source, all_columns=False)), None)
        if problem is not None:
            recovery = "make the rule fit the table as it is now, then worker-sync resync PIPELINE"
            raise Halt(State.SCHEMA_MISMATCH, f"the rule for {source.table} does not fit it: {problem.what}", recovery)
        unfold = self._unfolding(source)
        whole = source if unfold is None else unfold.table
        kept = [index for index, column in enumerate(whole.columns) if self._travels(column.name, whole.key)]
        columns = [whole.columns[index] for index in kept]
        keeps = None if self.where is None else Predicate(self.where, whole)
        masked = {index: masks.masking(self.masks[c.name]) for index, c in enumerate(columns) if c.name in self.masks}
        key = tuple(self.rename.get(name, name) for name in whole.key)
        table = msgspec.structs.replace(source, columns=tuple(map(self._column, columns)), key=key)
        origins = tuple(column.name for column in columns)
        return Shaper(table, origins, whole, unfold, keeps, _masking(_picking(kept, len(whole.columns)), masked))

    def _unfolding(self, source: TableSchema) -> Unfolding | None:
        return Unfolding(source, self.fields, self.rest) if self.fields else None

    def _travels(self, name: str, key: Collection[str]) -> bool:
        return name not in self.exclude and (self.include is None or name in self.include or name in key)

    def _column(self, column: Column) -> Column:
        mask = self.masks.get(column.name)
        column = column if mask is None else masks.masked_column(mask, column)
        return msgspec.structs.replace(column, name=self.rename.get(column.name, column.name))

    def reading(self, source: TableSchema, wanted: Collection[str]) -> tuple[TableSchema, Shape]:
        """What to read of the source, and the shape to give it, when only the columns `wanted` (source's names) of
        what travels are of interest."""
        if self.fields:
            return source, self
        tested = set() if self.where is None else set(columns_of(self.where))
        needed = {*wanted, *source.key, *tested}
        columns = tuple(column for column in source.columns if column.name in needed)
        include = tuple(name for name in wanted)
        narrowed = replace(
            self,
            include=include,
            exclude=(),
            rename={old: new for old, new in self.rename.items() if old in needed},
            masks={name: mask for name, mask in self.masks.items() if name in needed},
        )
        return msgspec.structs.replace(source, columns=columns), narrowed

    # -- what is wrong

    def problems(self, at: str, source: TableSchema, *, all_columns: bool) -> Iterator[Problem]:
        """What of the rule at path `at` doesn't fit the table, which must have `all_columns` that it names, or not."""
        if self.fields and not _has_documents(source):
            text = f"{source.table} has no JSON column {DOCUMENT!r}; `fields` is for collections"
            yield Problem(f"{at}.fields", text)
            return
        unfolding = self._unfolding(source)
        table = source if unfolding is None else unfolding.table
        if all_columns:
            for kind, names in self._named():
                yield from _unknown(f"{at}.columns.{kind}", table, names)
        yield from self._key_problems(f"{at}.columns", table)
        yield from self._mask_problems(f"{at}.columns.mask", table)
        yield from self._rename_problems(f"{at}.columns.rename", table)
        if self.where is not None:
            try:
                Predicate(self.where, table)
            except ValueError as error:
                yield Problem(f"{at}.where", str(error))

    def _named(self) -> Iterator[tuple[str, Collection[str]]]:
        yield from (("include", self.include or ()), ("exclude", self.exclude))
        yield from (("rename", self.rename), ("mask", self.masks))

    def _key_problems(self, at: str, table: TableSchema) -> Iterator[Problem]:
        for name in table.key:
            if name in self.exclude:
                text = f"{name!r} belongs to the key of {table.table}; a key can't be left out"
                yield Problem(f"{at}.exclude", text)
            if name in self.masks:
                text = f"belongs to the key of {table.table}; rows are found by their key, so it can't be masked"
                yield Problem(f"{at}.mask.{name}", text)

    def _mask_problems(self, at: str, table: TableSchema) -> Iterator[Problem]:
        for column in table.columns:
            mask = self.masks.get(column.name)
            obstacle = mask and masks.obstacle(mask, column)
            if obstacle:
                yield Problem(f"{at}.{column.name}", obstacle)

    def _rename_problems(self, at: str, table: TableSchema) -> Iterator[Problem]:
        taken: dict[str, str] = {}
        for name in table.column_names:
            if self._travels(name, table.key):
                first = taken.setdefault(self.rename.get(name, name), name)
                if first != name:
                    old = name if name in self.rename else first
                    text = f"{self.rename.get(name, name)!r} is the name of another column that travels"
                    yield Problem(f"{at}.{old}", text)


def _has_documents(table: TableSchema) -> bool:
    return any(column.name == DOCUMENT and column.type.kind is Kind.JSON for column in table.columns)


def _unknown(path: str, table: TableSchema, names: Collection[str]) -> Iterator[Problem]:
    for name in names:
        if name not in table.column_names:
            yield complain(path, f"{table.table} has no column {name!r}", name, table.column_names)


def _picking(kept: Sequence[int], of: int) -> Pick | None:
    """The values at these places; None for all of them."""
    if len(kept) == of:
        return None
    if len(kept) == 1:
        only = kept[0]
        return lambda row: (row[only],)
    return itemgetter(*kept)


def _masking(pick: Pick | None, masked: Mapping[int, Masking]) -> Pick | None:
    if not masked:
        return pick
    steps = list(masked.items())

    def mask(row: Row) -> Row:
        values = list(row if pick is None else pick(row))
        for index, masking in steps:
            value = values[index]
            if value is not None and value is not UNCHANGED:
                values[index] = masking(value)
        return tuple(values)

    return mask
