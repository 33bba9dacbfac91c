"""What differs between two versions of a table."""

from __future__ import annotations

import pytest

from worker_sync.core.alteration import Alteration, alteration, altered_columns
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type

INT = Type(Kind.INT, "integer", size=32)
TEXT = Type(Kind.TEXT, "text")
SAD = Type(Kind.ENUM, "mood", labels=("sad",))
MOODS = Type(Kind.ENUM, "mood", labels=("sad", "glad"))
ID = Column("id", INT, False, 1)


def table(*columns: Column, key: tuple[str, ...] = ("id",)) -> TableSchema:
    return TableSchema(TableName("public", "items"), columns, key, "postgresql", 42)


def found(before: TableSchema, after: TableSchema) -> Alteration:
    change = alteration(before, after)
    assert change is not None
    return change


def unnumbered(schema: TableSchema) -> TableSchema:
    columns = tuple(Column(column.name, column.type, column.nullable) for column in schema.columns)
    return TableSchema(schema.table, columns, schema.key, schema.engine)


def test_the_same_columns_ask_for_nothing() -> None:
    one = table(ID, Column("a", TEXT, True, 2))
    assert alteration(one, one) is None
    assert alteration(one, unnumbered(one)) is None
    assert alteration(one, table(Column("a", TEXT, True, 2), ID)) is None


def test_a_number_tells_a_rename_which_needs_no_copy() -> None:
    change = found(table(ID, Column("a", TEXT, True, 2)), table(ID, Column("b", TEXT, True, 2)))
    assert (change.renamed, change.dropped, change.added) == ({"a": "b"}, (), ())
    assert not change.changes_values
    assert str(change) == "public.items: column a was renamed b"


def test_without_numbers_a_rename_is_a_drop_and_an_addition_and_a_copy() -> None:
    before, after = table(ID, Column("a", TEXT, True, 2)), table(ID, Column("b", TEXT, True, 2))
    for change in (found(unnumbered(before), after), found(before, unnumbered(after))):
        assert (change.renamed, change.dropped, [column.name for column in change.added]) == ({}, ("a",), ["b"])
        assert change.changes_values


def test_names_that_change_hands_are_not_renamed_but_copied() -> None:
    before = table(ID, Column("a", TEXT, True, 2), Column("b", TEXT, True, 3))
    change = found(before, table(ID, Column("b", TEXT, True, 2), Column("a", TEXT, True, 3)))
    assert (change.renamed, change.dropped, change.added) == ({}, (), ())
    assert {column.name for column in change.replaced} == {"a", "b"}
    assert change.changes_values


def test_a_column_that_came_back_under_its_name_is_another_one() -> None:
    change = found(table(ID, Column("a", TEXT, True, 2)), table(ID, Column("a", TEXT, True, 3)))
    assert [column.name for column in change.replaced] == ["a"]
    assert change.changes_values


@pytest.mark.parametrize(
    ("was", "now", "copies"), [(INT, TEXT, True), (SAD, MOODS, False), (MOODS, SAD, True)], ids=str
)
def test_another_type_needs_a_copy_but_for_added_labels(was: Type, now: Type, copies: bool) -> None:
    change = found(table(ID, Column("a", was, True, 2)), table(ID, Column("a", now, True, 2)))
    assert ([column.name for column in change.retyped], change.changes_values) == (["a"], copies)


def test_a_dropped_column_needs_no_copy() -> None:
    change = found(table(ID, Column("a", TEXT, True, 2)), table(ID))
    assert (change.dropped, change.changes_values) == (("a",), False)


def test_what_may_be_null_now_is_passed_on_and_not_shown() -> None:
    change = found(table(ID, Column("a", TEXT, False, 2)), table(ID, Column("a", TEXT, True, 2)))
    assert (change.loosened, change.is_visible, change.changes_values) == (("a",), False, False)
    # Where only one version is known by its number the catalog may have been ahead.
    assert alteration(table(ID, Column("a", TEXT, False, 2)), table(ID, Column("a", TEXT, True))) is None


def test_another_key_is_an_obstacle_but_not_its_other_name_or_size() -> None:
    before = table(ID, Column("a", TEXT, False, 2))
    assert found(before, table(*before.columns, key=("id", "a"))).obstacle
    assert found(before, table(Column("id", TEXT, False, 1), before.columns[1])).obstacle
    renamed = found(before, table(Column("number", INT, False, 1), before.columns[1], key=("number",)))
    assert (renamed.obstacle, renamed.renamed) == ("", {"id": "number"})
    wider = found(before, table(Column("id", Type(Kind.INT, "bigint", size=64), False, 1), before.columns[1]))
    assert wider.obstacle == ""


def test_the_columns_of_a_target_follow_once_and_keep_its_own() -> None:
    own = Column("own", TEXT)
    before = table(ID, Column("a", TEXT, True, 2), Column("b", TEXT, True, 3))
    change = found(before, table(ID, Column("c", TEXT, True, 2), Column("d", INT, True, 4)))
    once = altered_columns((*before.columns, own), change)
    assert [column.name for column in once] == ["id", "c", "own", "d"]
    assert altered_columns(once, change) == once
