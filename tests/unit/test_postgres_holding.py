"""Which columns of existing tables take values without altering them."""

from __future__ import annotations

import pytest

from connectors.postgres.holding import holds
from worker_sync.core.schema import Kind, Type

NUMERIC = Type(Kind.DECIMAL, "numeric")
MONEY_LIKE = Type(Kind.DECIMAL, "numeric(12,2)", precision=12, scale=2)
TEXT = Type(Kind.TEXT, "text")
DOUBLE = Type(Kind.FLOAT, "double precision", size=64)
MOMENT = Type(Kind.TIMESTAMP, "timestamp without time zone")
TO_THE_SECOND = Type(Kind.TIMESTAMP, "datetime", precision=0)
INTEGER = Type(Kind.INT, "integer", size=32)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (MONEY_LIKE, "numeric(5,1)"),
        (NUMERIC, "numeric(12,2)"),
        (NUMERIC, "real"),
        (MONEY_LIKE, "double precision"),
        (NUMERIC, "money"),
        (DOUBLE, "real"),
        (Type(Kind.INT, "bigint", size=64), "double precision"),
        (MOMENT, "timestamp(0) without time zone"),
        (MOMENT, "date"),
        (Type(Kind.TIMETZ, "time with time zone"), "time without time zone"),
        (Type(Kind.INTERVAL, "interval"), "interval(0)"),
        (TEXT, "character(5)"),
        (TEXT, "name"),
        (TEXT, "boolean"),
    ],
)
def test_a_column_that_alters_values_without_an_error_holds_them_not(source: Type, target: str) -> None:
    assert not holds(source, target, same_engine=True)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (MONEY_LIKE, "numeric(12,2)"),
        (MONEY_LIKE, "numeric(20,4)"),
        (MONEY_LIKE, "numeric"),
        (NUMERIC, "text"),
        (INTEGER, "numeric(20,0)"),
        (INTEGER, "smallint"),
        (INTEGER, "double precision"),
        (DOUBLE, "double precision"),
        (Type(Kind.FLOAT, "real", size=32), "real"),
        (MOMENT, "timestamp(6) without time zone"),
        (TO_THE_SECOND, "timestamp(0) without time zone"),
        (MOMENT, "timestamp with time zone"),
        (Type(Kind.TEXT, "character(5)", size=5), "character(5)"),
        (Type(Kind.NATIVE, "money"), "money"),
        (TEXT, "character varying(10)"),
        (Type(Kind.JSON, "json"), "jsonb"),
        (Type(Kind.BOOL, "boolean"), "boolean"),
        (Type(Kind.DATE, "date"), "date"),
        (Type(Kind.TIME, "time without time zone"), "time without time zone"),
        (Type(Kind.TIMETZ, "time with time zone"), "time with time zone"),
        (Type(Kind.ARRAY, "integer[]"), "integer[]"),
        (Type(Kind.ENUM, "public.mood"), "public.mood"),
    ],
)
def test_a_column_that_keeps_or_refuses_every_value_holds_them(source: Type, target: str) -> None:
    assert holds(source, target, same_engine=True)
