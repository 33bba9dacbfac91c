"""Personal data in the configuration: what is declared, and what is refused with its exact path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from worker_sync.core.personal import declaration
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.settings import Settings, parse
from worker_sync.core.settings_file import SettingsError

KEY = "a personal key of 32 or more characters"
CUSTOMERS = {"subject": "id", "columns": ["email", "name"]}


def read(personal_data: Any, tables: Any = ("public.*",), ledger: Any = None) -> Settings:
    data = {
        "control": "postgresql://ws@pg/control",
        "databases": {"shop": {"url": "postgresql://ws@pg/shop"}},
        "audit": {"shop": {"tables": list(tables), "personal_data": personal_data}},
        "ledger": {"personal_key": KEY} if ledger is None else ledger,
    }
    return parse(data, where="test", folder=Path("/nonexistent"))


def problems(*given: Any, **more: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(*given, **more)
    return [str(problem) for problem in caught.value.problems]


def test_the_key_shows_nowhere() -> None:
    settings = read({"public.customers": CUSTOMERS})
    assert settings.audit["shop"].personal_data["public.customers"].columns == ("email", "name")
    assert KEY in settings.secrets()
    assert KEY not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"public.customers": {"columns": ["a"]}}, "public.customers.subject: is missing; add it"),
        (
            {"public.customers": {"subject": "id", "columns": []}},
            "public.customers.columns: is empty; give at least one entry",
        ),
        (
            {"public.customers": {"subject": "id", "columns": ["a", "a"]}},
            "public.customers: columns names one twice; remove it",
        ),
        (
            {"public.customers": {"subjects": "id", **CUSTOMERS}},
            "public.customers.subjects: unknown key 'subjects'; did you mean 'subject'?",
        ),
        ({"public.*": CUSTOMERS}, "public.*: is no table's name; write namespace.name"),
        ({"public.": CUSTOMERS}, "public.: is no table's name; write namespace.name"),
        ({"crm.customers": CUSTOMERS}, "crm.customers: is not one of the trail's tables"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(declared: Any, expected: str) -> None:
    assert problems(declared) == [f"audit.shop.personal_data.{expected}"]


def test_a_key_is_needed_and_has_to_be_long() -> None:
    declared = {"public.customers": CUSTOMERS}
    assert problems(declared, ledger={}) == [
        "ledger.personal_key: is missing; audit.shop.personal_data needs it (openssl rand -base64 32 makes one)"
    ]
    assert problems(declared, ledger={"personal_key": "short"}) == [
        "ledger.personal_key: must have at least 32 characters; openssl rand -base64 32 makes one"
    ]
    assert read({}, ledger={}).ledger.personal_key is None


def test_an_excluded_column_is_no_personal_data() -> None:
    rule = {"name": "public.customers", "columns": {"exclude": ["email"]}}
    assert problems({"public.customers": CUSTOMERS}, tables=[rule]) == [
        "audit.shop.personal_data.public.customers: 'email' is excluded from the trail; remove one of the two"
    ]


def table(name: str) -> TableSchema:
    return TableSchema(TableName.parse(name), (Column("id", Type(Kind.INT, "bigint", size=64)),), ("id",), "postgresql")


def test_a_declaration_of_no_table_is_refused_before_anything_is_recorded() -> None:
    settings = read({"public.custmers": CUSTOMERS})
    with pytest.raises(SettingsError) as caught:
        settings.select(settings.flows["audit.shop"], [table("public.customers")])
    assert str(caught.value).endswith(
        "audit.shop.personal_data.public.custmers: no table 'public.custmers'; did you mean 'public.customers'?"
    )
    good = read({"customers": CUSTOMERS})
    assert len(good.select(good.flows["audit.shop"], [table("public.customers")])) == 1


def test_a_name_with_namespace_goes_before_one_without() -> None:
    declared = read({"public.customers": CUSTOMERS, "customers": CUSTOMERS}).audit["shop"].personal_data
    assert declaration(declared, TableName("public", "customers")) == "public.customers"
    assert declaration(declared, TableName("crm", "customers")) == "customers"
    assert declaration(declared, TableName("public", "orders")) is None
