"""MySQL without a server: URLs, error messages, types, literals and the size of statements."""

from __future__ import annotations

import struct

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mysql.conn import parameters, parse_url, redact
from connectors.mysql.errors import one_line, translate
from connectors.mysql.session import STATEMENT_BYTES, packed, size
from connectors.mysql.sql import binary, flat, quote, text
from connectors.mysql.types import ColumnType, bits, core_type, labels_of, shortest_float, trim_fraction
from worker_sync.core.errors import ConfigError, Halt, Permanent, State, TargetRejected, Transient
from worker_sync.core.schema import Kind, TableName

SECRET = "s3cr3t"


def test_a_url_is_taken_apart_and_its_password_never_shown() -> None:
    url = f"mariadb://w%40s:{SECRET}%2F@db.example:3307/shop?ssl-mode=disabled&connect-timeout=3"
    address = parse_url(url)
    assert (address.host, address.port, address.user, address.database) == ("db.example", 3307, "w@s", "shop")
    assert address.password == f"{SECRET}/"
    assert SECRET not in repr(address)
    assert redact(url) == "mariadb://w@s@db.example:3307/shop"
    given_to_driver = parameters(address)
    assert given_to_driver["ssl_disabled"] is True
    assert given_to_driver["connect_timeout"] == 3
    assert given_to_driver["password"] == f"{SECRET}/".encode()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@h/d",
        f"mysql://u:{SECRET}@/d",
        f"mysql://u:{SECRET}@h:port/d",
        f"mysql://u:{SECRET}@h/d?ssl-mode=perhaps",
        f"mysql://u:{SECRET}@h/d?ssl_mode=required",
        f"mysql://u:{SECRET}@h/d?read-timeout=soon",
    ],
)
def test_a_bad_url_is_a_configuration_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1062, f"Duplicate entry '{SECRET}' for key 'people.email'"),
        (1062, f"Duplicate entry 'x' for key '{SECRET}' for key 'email'"),
        (1366, f"Incorrect integer value: '{SECRET}' for column `shop`.`people`.`age` at row 7"),
        (1292, f"Incorrect datetime value: '{SECRET}' for column 'at' at row 1"),
        (1064, f"You have an error in your SQL syntax; check the manual near '{SECRET}' at line 1"),
        (1300, f"Invalid utf8mb4 character string: '{SECRET}'"),
        (1644, f"{SECRET} is not allowed here"),
    ],
)
def test_values_are_cut_out_of_the_servers_messages(code: int, message: str) -> None:
    error = pymysql.err.OperationalError(code, message)
    assert SECRET not in one_line(error)
    assert str(code) in one_line(error)
    assert SECRET not in str(translate(error, "people"))


def test_names_stay_in_the_servers_messages() -> None:
    duplicate = pymysql.err.IntegrityError(1062, "Duplicate entry 'a' for key 'people.email'")
    assert one_line(duplicate) == "duplicate entry for key 'people.email' (error 1062)"
    assert "`age`" in one_line(pymysql.err.DataError(1366, "Incorrect integer value: 'a' for column `age` at row 7"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1213, Transient), (1205, Transient), (2013, Transient), (2006, Transient), (1290, Transient),
        (1040, Transient), (1969, Transient), (3024, Transient),
        (1062, TargetRejected), (1048, TargetRejected), (1264, TargetRejected),
        (1406, TargetRejected), (4025, TargetRejected), (3819, TargetRejected), (1146, Halt), (1054, Halt),
        (1142, Halt), (1064, Permanent),
    ],
)  # fmt: skip
def test_errors_are_sorted_by_what_the_runtime_does(code: int, expected: type[Exception]) -> None:
    assert type(translate(pymysql.err.OperationalError(code, "text"), "where")) is expected


def test_a_missing_right_is_told_apart_from_a_missing_table() -> None:
    states = [translate(pymysql.err.OperationalError(code, "text"), "x") for code in (1142, 1146)]
    assert [halt.state for halt in states if isinstance(halt, Halt)] == [State.PREFLIGHT_FAILED, State.SCHEMA_MISMATCH]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_float_is_the_same_32_bits_with_fewest_digits(value: float) -> None:
    short = shortest_float(value)
    assert struct.pack("<f", short) == struct.pack("<f", value)
    assert shortest_float(short) == short
    assert len(repr(abs(short)).replace(".", "").replace("e", "").strip("0")) <= 13


@pytest.mark.parametrize(("value", "short"), [(0.10000000149011612, 0.1), (1.401298464324817e-45, 1e-45), (0.5, 0.5)])
def test_the_shortest_float_is_what_people_wrote(value: float, short: float) -> None:
    assert shortest_float(value) == short


@pytest.mark.parametrize(
    ("given_text", "trimmed"),
    [
        ("12:00:00.120000", "12:00:00.12"),
        ("12:00:00.000000", "12:00:00"),
        ("12:00:10", "12:00:10"),
        ("-838:59:59.500", "-838:59:59.5"),
    ],
)
def test_fractions_of_a_second_lose_trailing_zeros(given_text: str, trimmed: str) -> None:
    assert trim_fraction(given_text) == trimmed


def test_labels_are_read_as_the_catalog_spells_them() -> None:
    assert labels_of(r"enum('a','it''s','b\\c','x,y','','n\nl')") == ("a", "it's", "b\\c", "x,y", "", "n\nl")


@pytest.mark.parametrize(
    ("column", "kind", "size"),
    [
        (ColumnType("tinyint", "tinyint(1)"), Kind.INT, 8),
        (ColumnType("bigint", "bigint(20) unsigned"), Kind.INT, 64),
        (ColumnType("float", "float"), Kind.FLOAT, 32),
        (ColumnType("longtext", "longtext", 4294967295, charset="utf8mb4", json=True), Kind.JSON, None),
        (ColumnType("varchar", "varchar(40)", 40, charset="latin1"), Kind.TEXT, 40),
        (ColumnType("binary", "binary(16)", 16), Kind.BYTES, 16),
        (ColumnType("bit", "bit(3)", precision=3), Kind.BIT, 3),
        (ColumnType("set", "set('a')", charset="latin1"), Kind.NATIVE, None),
        (ColumnType("unheard_of", "unheard_of"), Kind.NATIVE, None),
    ],
    ids=lambda part: part.column_type if isinstance(part, ColumnType) else "",
)
def test_types_have_their_kind(column: ColumnType, kind: Kind, size: int | None) -> None:
    found = core_type(column)
    assert (found.kind, found.size, found.unsigned) == (kind, size, "unsigned" in column.column_type)


def test_bits_are_written_out() -> None:
    assert (bits(b"\x05", 3), bits(b"\x00\x01", 10)) == ("101", "0000000001")


@given(st.binary())
def test_a_binary_literal_holds_the_bytes_with_quotes_doubled(value: bytes) -> None:
    sent = binary(value).encode("utf-8", "surrogateescape")
    assert sent == b"_binary'" + value.replace(b"'", b"''") + b"'"


def test_names_and_texts_are_quoted() -> None:
    assert (quote("a`b"), text("it's \\")) == ("`a``b`", "'it''s \\'")
    assert [str(flat(name)) for name in (TableName("public", "t"), TableName("", "t"), TableName("s", "t"))] == [
        "t",
        "t",
        "s.t",
    ]


@given(st.lists(st.text(max_size=60)), st.integers(300, 400))
def test_packed_parts_are_all_there_and_no_text_is_too_large(parts: list[str], room: int) -> None:
    texts = list(packed(parts, ",", room, "a row"))
    assert ",".join(texts) == ",".join(parts)
    assert all(size(some) <= room for some in texts)
    assert size("ä🙂") == 6


def test_a_part_that_has_no_room_is_refused_with_the_setting() -> None:
    with pytest.raises(TargetRejected, match="SET GLOBAL max_allowed_packet = 8192"):
        list(packed(["x" * 5_000], ",", 4_000, "t: a row"))
    assert len(list(packed(["x" * STATEMENT_BYTES] * 3, ",", 1 << 30, "t: a row"))) == 3
