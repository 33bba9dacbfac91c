"""Pieces of the binary log as servers wrote them, and what must never be taken for one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mysql.binlog import events, gtid
from connectors.mysql.binlog.charsets import single_byte_decoder
from connectors.mysql.binlog.compression import payload_events, unpack_mariadb
from connectors.mysql.binlog.decimals import decimal_reader, decimal_size
from connectors.mysql.binlog.events import Event
from connectors.mysql.binlog.json_diff import apply_diffs
from connectors.mysql.binlog.jsonb import json_text
from connectors.mysql.binlog.numbers import length_encoded, variable_length
from connectors.mysql.binlog.table_map import parse_table_map
from connectors.mysql.binlog.transactions import Assembler
from connectors.mysql.captured import NoTables
from connectors.mysql.gtid_set import GtidSet
from connectors.mysql.position import LogPosition, boundary, parse_position
from worker_sync.core.errors import Halt, State

_SERVER = "9bf22879-e592-11f1-8fda-02fc00000001"
# MySQL 9.7: INSERT under SET gtid_next = 'AUTOMATIC:mytag'.
_TAGGED = (
    b'\x02v\x00\x00\x00\x02m\x02\xc9\x03P\xf2\x95\x03I\x02"\xc5\x03=\x02i\x03\x04\xf1\x03\x00\x00\x00\x02\x04\x04\x06\n'
    b"mytag\x08 \n$\x0c\x7f\x0b+Gv\xc6`\x06\x10U\x06\x12\x83\x12\x0b"
)
# MySQL 9.7: a table with an enum and a set, character sets that differ, a vector, and a geometry.
_TABLE_MAP = (
    b"l\x00\x00\x00\x00\x00\x01\x00\x01d\x00\x01g\x00\x10\x03\x03\x03\x03\xfe\xf5\x11\xfe\xfe\r\x10\xff\xfe\x0f\xf2\x03"
    b"\x10\xfe\x05\x04\x03\xf7\x01\xf8\x01\x01\x01\x04\xfe\x04\xb0\x04\x04\xfe\xff\x01\x01\x08\x03\x06?\x08\xfc\xff\x00?"
    b"\x07\x01\x01\r\x01\x03\x04*\x02id\x01a\x01b\x01c\x02bi\x01j\x02tf\x01e\x01s\x01y\x02bt\x03geo\x02ch\x02vc\x01v"
    b"\x03inv\n\x03\xfc\xff\x00\x05\x07\x03\x01a\x01b\x01c\x06\x06\x02\x01x\x02\xc3\xa9\x08\x01\x00\x0c\x02\xff\xfe"
)
# MySQL 9.7: {"a": 1, "b": [1.5, "x", null, true, {"q": -70000}]}
_JSON = bytes.fromhex(
    "00 0200 4100 1200 0100 1300 0100 05 0100 02 1400 61 62 0500 2d00 0b 1300 0c 1b00 04 0000 04 0100 00 1d00"
    "000000000000f83f 01 78 0100 1000 0b00 0100 07 0c00 71 90eefeff"
)


def _event(kind: int, body: bytes = b"", flags: int = 0) -> Event:
    return Event(kind, 1_700_000_000, 1, flags, 19 + len(body), 1_000, body)


def test_a_tagged_gtid() -> None:
    assert gtid.tagged(_event(events.TAGGED_GTID, _TAGGED)) == (f"{_SERVER}:mytag:1", 1795255364430603, False, False)


def test_a_table_map_with_full_metadata() -> None:
    table = parse_table_map(_TABLE_MAP, mariadb=False)
    assert (table.database, table.table, table.key) == ("d", "g", (0,))
    assert " ".join(column.name for column in table.columns) == "id a b c bi j tf e s y bt geo ch vc v inv"
    by_name = {column.name: column for column in table.columns}
    assert by_name["e"].labels == (b"x", "é".encode())
    assert by_name["s"].labels == (b"a", b"b", b"c")
    assert [by_name[name].collation for name in ("bi", "ch", "vc", "v")] == [63, 8, 255, 63]
    assert (by_name["y"].unsigned, by_name["id"].unsigned) == (True, False)
    assert (by_name["id"].nullable, by_name["a"].nullable) == (False, True)
    assert by_name["vc"].meta == 1_200


@pytest.mark.parametrize("size", [9, 20, 40, 60, 100, 120])
def test_a_table_map_that_is_cut_off_is_refused(size: int) -> None:
    class Parsing(NoTables):
        def reader(self, body: bytes) -> None:
            parse_table_map(body, mariadb=False)

    with pytest.raises(Halt) as halt:
        Assembler(Parsing(), str).feed(_event(events.TABLE_MAP, _TABLE_MAP[:size]))
    assert halt.value.state is State.UNKNOWN_MESSAGE


def test_binary_json() -> None:
    assert json_text(_JSON) == '{"a": 1, "b": [1.5, "x", null, true, {"q": -70000}]}'


def test_json_that_is_cut_off_is_refused() -> None:
    for size in range(1, len(_JSON)):
        with pytest.raises(Halt):
            json_text(_JSON[:size])


def test_diffs_change_documents_and_refuse_what_does_not_fit() -> None:
    document = {"a": ["1", "2"], "b": {"c": "3"}}
    assert apply_diffs(document, b"\x02\x06$.a[0]\x01\x04$.bb\x02\x04\x00\x00\x05$.b.c\x03\x05\x07\x00") == {
        "a": ["2"],
        "b": {"c": "7"},
        "bb": "null",
    }
    for diff in (b"\x02\x03$.x", b"\x02\x05$.a.b", b"\x00\x03$.x\x02\x04\x00", b"\x07\x03$.a", b"\x02\x01$"):
        with pytest.raises(Halt, match="partial JSON"):
            apply_diffs({"a": ["1"]}, diff)


@given(st.integers(0, 2**64 - 1))
def test_numbers_of_variable_length(value: int) -> None:
    extra = next((extra for extra in range(8) if value < 1 << 7 * (extra + 1)), 8)
    if extra == 8:
        data = b"\xff" + value.to_bytes(8, "little")
    else:
        data = (value << (extra + 1) | (1 << extra) - 1).to_bytes(extra + 1, "little")
    assert variable_length(b"?" + data + b"?", 1) == (value, 1 + len(data))


def test_numbers_that_are_cut_off_are_refused() -> None:
    for data in (b"\xfc\x01", b"\xfd\x01\x02", b"\xff", b"\xfb"):
        with pytest.raises(Halt):
            length_encoded(data, 0)
    with pytest.raises(Halt):
        variable_length(b"\x07\x00", 0)


@given(st.integers(1, 65).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, min(p, 30)))), st.data())
def test_decimals_of_every_precision(shape: tuple[int, int], data: st.DataObject) -> None:
    precision, scale = shape
    number = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    text = f"{abs(number):0{scale + 1}}"
    whole, part = (text[:-scale], text[-scale:]) if scale else (text, "")
    shown = ("-" if number < 0 else "") + whole + ("." + part if part else "")
    assert decimal_reader(precision, scale)(_packed(number, precision, scale)) == shown


def _packed(number: int, precision: int, scale: int) -> bytes:
    """What the server's decimal2bin writes."""
    digits = f"{abs(number):0{precision}}"
    whole, part = digits[: precision - scale], digits[precision - scale :]
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4)
    first = len(whole) % 9
    groups = [whole[:first]] + [whole[at : at + 9] for at in range(first, len(whole), 9)]
    groups += [part[at : at + 9] for at in range(0, len(part), 9)]
    widths = [4 if len(group) == 9 else sizes[len(group)] for group in groups]
    data = b"".join(int(group or 0).to_bytes(width, "big") for group, width in zip(groups, widths, strict=True))
    assert len(data) == decimal_size(precision, scale)
    value = int.from_bytes(data, "big")
    if number < 0:
        value ^= (1 << 8 * len(data)) - 1
    return (value ^ 1 << 8 * len(data) - 1).to_bytes(len(data), "big")


def test_bytes_that_a_character_set_lacks_are_refused() -> None:
    decode = single_byte_decoder([chr(code) if code < 128 else "?" for code in range(256)])
    assert decode(b"a?b") == "a?b"
    with pytest.raises(UnicodeDecodeError):
        decode(b"a\x80")


def test_compressed_parts_that_are_not_what_they_say_are_refused() -> None:
    for data in (b"\x01\x05abc", b"\x91\x05abc", b"\x81\x05abc"):
        with pytest.raises(Halt):
            unpack_mariadb(data)
    for body in (b"\x02\x01\x00\x00garbage", b"\x02\x01\x07\x00garbage", b"\x02\x01\xff\x00cut"):
        with pytest.raises(Halt):
            list(payload_events(_event(events.TRANSACTION_PAYLOAD, body)))


def test_gtid_sets() -> None:
    found = GtidSet(f"{_SERVER}:1-5:8:tag:3-4:_b:7, 00000000-0000-0000-0000-000000000001:2")
    inside = ["1", "5", "8", "tag:3", "tag:4", "_b:7"]
    assert all(f"{_SERVER}:{name}" in found for name in inside)
    assert not any(f"{_SERVER}:{name}" in found for name in ["6", "9", "tag:2", "tag:5", "other:3", "_b:1"])
    assert "00000000-0000-0000-0000-000000000001:2" in found
    assert f"{_SERVER}:1" not in GtidSet("")


def test_positions_are_in_log_order_as_text() -> None:
    ordered = [boundary(1, 4), boundary(1, 4, 99), boundary(1, 4, 99, begun=True), boundary(1, 900, 5), boundary(10, 4)]
    assert ordered == sorted(ordered)
    assert parse_position(boundary(3, 77, 12, begun=True)) == LogPosition(3, 77, True, 12)
    assert str(parse_position(ordered[0])) == ordered[0]
    for text in ("", "1:2:0", "0/16B3748", "0000000001:0000000004:0:later"):
        with pytest.raises(Halt) as halt:
            parse_position(text)
        assert halt.value.state is State.POSITION_LOST


# Frames


def _assembler() -> Assembler:
    return Assembler(NoTables(), lambda offset: boundary(1, offset, 1, begun=True))


def _query(text: bytes) -> bytes:
    return struct.pack("<IIBHH", 1, 0, 1, 0, 0) + b"d\0" + text


_GTID = struct.pack("<B16sq", 0, bytes(16), 1) + bytes(40)


def test_an_unknown_event_halts_unless_it_may_be_ignored() -> None:
    with pytest.raises(Halt) as halt:
        _assembler().feed(_event(199))
    assert halt.value.state is State.UNKNOWN_MESSAGE
    assert _assembler().feed(_event(199, flags=events.IGNORABLE)) is False


@pytest.mark.parametrize("kind", [20, 21, 22, events.BEGIN_LOAD_QUERY, events.EXECUTE_LOAD_QUERY])
def test_events_of_other_formats_halt(kind: int) -> None:
    with pytest.raises(Halt):
        _assembler().feed(_event(kind, bytes(40)))


def test_an_incident_halts() -> None:
    with pytest.raises(Halt) as halt:
        _assembler().feed(_event(events.INCIDENT, b"\x01\x00"))
    assert halt.value.state is State.POSITION_LOST


def test_rows_without_their_table_halt() -> None:
    with pytest.raises(Halt, match="was not named"):
        _assembler().feed(_event(events.WRITE_ROWS, bytes(40)))


def test_a_transaction_inside_another_halts() -> None:
    assembler = _assembler()
    assembler.feed(_event(events.GTID, _GTID))
    assembler.feed(_event(events.QUERY, _query(b"BEGIN")))
    with pytest.raises(Halt, match="inside another"):
        assembler.feed(_event(events.GTID, _GTID))


def test_a_transaction_that_a_crash_cut_off_is_forgotten() -> None:
    assembler = _assembler()
    assembler.feed(_event(events.GTID, _GTID))
    assembler.feed(_event(events.QUERY, _query(b"BEGIN")))
    assembler.next_file()
    assert not assembler.open
    assembler.feed(_event(events.GTID, _GTID))
    assembler.feed(_event(events.QUERY, _query(b"BEGIN")))
    assert assembler.feed(_event(events.XID, bytes(8)))
    assert assembler.finish() is None
