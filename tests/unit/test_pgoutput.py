"""The pgoutput decoder, byte by byte."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres.pgoutput import EPOCH_SHIFT, Decoder, Relation, RelationColumn, format_lsn
from worker_sync.core.change import Change, Message, TransactionInfo
from worker_sync.core.errors import Halt, State
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED

OID = 16_500
COMMIT = 0x1_0000_00FF
KINDS = {20: Kind.INT, 25: Kind.TEXT, 701: Kind.FLOAT, 16: Kind.BOOL, 17: Kind.BYTES}
COLUMNS = (("id", 20, True), ("name", 25, False), ("ratio", 701, False), ("ok", 16, False), ("raw", 17, False))


@dataclass
class Describer:
    """Gives out table ids and remembers what it was asked."""

    asked: list[Relation] = field(default_factory=list)

    def __call__(self, relation: Relation) -> tuple[int, TableSchema]:
        self.asked.append(relation)
        columns = tuple(Column(column.name, Type(KINDS[column.type[0]])) for column in relation.columns)
        return len(self.asked), TableSchema(relation.table, columns, ("id",), "postgresql")


def begin(xid: int = 7) -> bytes:
    return b"B" + struct.pack(">QqI", COMMIT, 1_000, xid)


def commit(lsn: int = COMMIT) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, lsn, lsn + 48, 1_000)


def relation(identity: bytes = b"d", oid: int = OID) -> bytes:
    head = b"R" + struct.pack(">I", oid) + b"public\0items\0" + identity + struct.pack(">H", len(COLUMNS))
    columns = (bytes([key]) + name.encode() + b"\0" + struct.pack(">Ii", kind, -1) for name, kind, key in COLUMNS)
    return head + b"".join(columns)


def row(*values: bytes | object | None) -> bytes:
    def one(value: bytes | object | None) -> bytes:
        if isinstance(value, bytes):
            return b"t" + struct.pack(">I", len(value)) + value
        return b"n" if value is None else b"u"

    return struct.pack(">H", len(values)) + b"".join(map(one, values))


def changed(kind: bytes, *tuples: bytes) -> bytes:
    return kind + struct.pack(">I", OID) + b"".join(tuples)


def message(content: bytes, prefix: bytes = b"worker_sync.context", flags: int = 1) -> bytes:
    return b"M" + struct.pack(">BQ", flags, 5) + prefix + b"\0" + struct.pack(">I", len(content)) + content


FULL_ROW = row(b"1", "é".encode(), b"-Infinity", b"t", b"\\x00ff")
INSERT = changed(b"I", b"N" + FULL_ROW)


@pytest.fixture
def decoder() -> Decoder:
    decoder = Decoder(Describer())
    decoder.feed(relation())
    decoder.feed(begin())
    return decoder


def only(decoder: Decoder) -> Change:
    assert len(decoder.changes) == 1
    return decoder.changes[0]


def test_positions_are_hex_so_that_string_order_is_log_order() -> None:
    assert format_lsn(0x1_0000_00FF) == "00000001000000FF"
    numbers = [0, 9, 10, 255, 1 << 32, (1 << 64) - 1]
    assert sorted(map(format_lsn, numbers)) == [format_lsn(number) for number in numbers]


def test_a_transaction_is_described_by_its_begin(decoder: Decoder) -> None:
    assert decoder.info == TransactionInfo("00000001000000FF", 1_000 + EPOCH_SHIFT, "7")
    assert decoder.feed(commit()) is True


def test_a_relation_is_described_in_full() -> None:
    describer = Describer()
    Decoder(describer).feed(relation(b"f"))
    assert describer.asked == [
        Relation(
            OID,
            TableName("public", "items"),
            "f",
            tuple(RelationColumn(name, (kind, -1), key) for name, kind, key in COLUMNS),
        )
    ]


def test_an_insert_holds_canonical_values(decoder: Decoder) -> None:
    assert decoder.feed(INSERT) is False
    assert only(decoder) == Change(1, "c", 1, None, None, (1, "é", float("-inf"), True, b"\x00\xff"))


def test_nulls_and_empty_texts_differ(decoder: Decoder) -> None:
    decoder.feed(changed(b"I", b"N" + row(b"1", b"", None, None, b"\\x")))
    assert only(decoder).after == (1, "", None, None, b"")


def test_a_value_of_more_than_64_kilobytes_is_read_whole(decoder: Decoder) -> None:
    decoder.feed(changed(b"I", b"N" + row(b"1", b"x" * 100_000, None, None, None)))
    assert only(decoder).after == (1, "x" * 100_000, None, None, None)


def test_an_update_without_old_tuple_leaves_the_key_alone(decoder: Decoder) -> None:
    decoder.feed(changed(b"U", b"N" + row(b"1", UNCHANGED, None, b"f", UNCHANGED)))
    change = only(decoder)
    assert (change.op, change.key, change.before) == ("u", None, None)
    assert change.after == (1, UNCHANGED, None, False, UNCHANGED)


def test_an_update_of_the_key_has_the_old_key(decoder: Decoder) -> None:
    old = row(b"1", None, None, None, None)
    decoder.feed(changed(b"U", b"K" + old, b"N" + row(b"2", UNCHANGED, None, None, None)))
    change = only(decoder)
    assert (change.key, change.before, change.after) == ((1,), None, (2, UNCHANGED, None, None, None))


def test_an_old_key_that_equals_the_new_one_is_no_key_change(decoder: Decoder) -> None:
    old = row(b"1", None, None, None, None)
    decoder.feed(changed(b"U", b"K" + old, b"N" + row(UNCHANGED, b"n", None, None, None)))
    change = only(decoder)
    assert (change.key, change.after) == (None, (1, "n", None, None, None))


def test_an_old_row_completes_the_new_one(decoder: Decoder) -> None:
    old = row(b"1", b"large", b"1.5", b"t", None)
    decoder.feed(changed(b"U", b"O" + old, b"N" + row(b"1", UNCHANGED, None, b"f", None)))
    change = only(decoder)
    assert change.before == (1, "large", 1.5, True, None)
    assert change.after == (1, "large", None, False, None)
    assert change.key is None


def test_an_old_row_with_another_key_gives_the_old_key(decoder: Decoder) -> None:
    old = row(b"1", b"a", None, None, None)
    decoder.feed(changed(b"U", b"O" + old, b"N" + row(b"2", b"a", None, None, None)))
    assert only(decoder).key == (1,)


@pytest.mark.parametrize(("tag", "before"), [(b"K", None), (b"O", (1, None, None, None, None))])
def test_a_delete_has_the_key_and_the_old_row_if_it_was_sent(
    decoder: Decoder, tag: bytes, before: tuple[object, ...] | None
) -> None:
    decoder.feed(changed(b"D", tag + row(b"1", None, None, None, None)))
    assert only(decoder) == Change(1, "d", 1, (1,), before, None)


def test_a_truncate_is_one_change_per_table(decoder: Decoder) -> None:
    decoder.feed(relation(oid=OID + 1))
    decoder.feed(b"T" + struct.pack(">IBII", 2, 0, OID, OID + 1))
    assert [(change.ordinal, change.op, change.table) for change in decoder.changes] == [(1, "t", 1), (2, "t", 2)]


def test_ordinals_count_from_one_in_each_transaction(decoder: Decoder) -> None:
    for _ in range(2):
        decoder.feed(INSERT)
        decoder.feed(INSERT)
        assert [change.ordinal for change in decoder.changes] == [1, 2]
        decoder.feed(commit())
        decoder.info, decoder.changes = None, []
        decoder.feed(begin())


def test_messages_of_ours_are_kept_and_others_are_not(decoder: Decoder) -> None:
    decoder.feed(message(b"\x00\xff"))
    decoder.feed(message(b"other", prefix=b"application"))
    decoder.feed(message(b"not transactional", flags=0))
    assert decoder.messages == [Message("worker_sync.context", b"\x00\xff")]


def test_origins_and_type_names_are_accepted(decoder: Decoder) -> None:
    decoder.feed(b"O" + struct.pack(">Q", 9) + b"elsewhere\0")
    decoder.feed(b"Y" + struct.pack(">I", 99) + b"public\0mood\0")
    assert decoder.changes == []


def test_an_unknown_message_kind_halts_with_its_name(decoder: Decoder) -> None:
    with pytest.raises(Halt, match="'Z' in transaction 00000001000000FF") as halt:
        decoder.feed(b"Zanything")
    assert halt.value.state is State.UNKNOWN_MESSAGE
    assert "worker-sync resume PIPELINE" in halt.value.recovery


@pytest.mark.parametrize(
    "data",
    [
        b"",
        changed(b"I", b"K" + FULL_ROW),
        changed(b"U", b"X" + FULL_ROW, b"N" + FULL_ROW),
        changed(b"D", b"N" + FULL_ROW),
        changed(b"I", b"N" + row(b"1")),
        changed(b"I", b"N" + row(b"one", b"", None, None, None)),
        changed(b"I", b"N" + row(b"1", b"\xff", None, None, None)),
        changed(b"I", b"N" + row(b"1", b"", None, b"maybe", None)),
        changed(b"I", b"N" + row(b"1", b"", None, None, b"plain")),
        b"I" + struct.pack(">I", 1) + b"N" + FULL_ROW,
        INSERT + b"x",
        begin(),
        commit(COMMIT + 1),
        b"T" + struct.pack(">IBI", 2, 0, OID),
        relation(b"?"),
    ],
    ids=[
        "empty",
        "insert with a key tuple",
        "update with an unknown tuple",
        "delete with a new tuple",
        "too few columns",
        "no integer",
        "no utf-8",
        "no boolean",
        "no hex",
        "unknown table",
        "too long",
        "begin inside a transaction",
        "commit of another transaction",
        "truncate of fewer tables than announced",
        "unknown replica identity",
    ],
)
def test_a_message_that_breaks_the_protocol_halts(decoder: Decoder, data: bytes) -> None:
    with pytest.raises(Halt) as halt:
        decoder.feed(data)
    assert halt.value.state is State.UNKNOWN_MESSAGE


def test_an_error_does_not_quote_the_row(decoder: Decoder) -> None:
    with pytest.raises(Halt) as halt:
        decoder.feed(changed(b"I", b"N" + row(b"secret", b"", None, None, None)))
    assert "secret" not in str(halt.value)


UPDATE = changed(b"U", b"O" + FULL_ROW, b"N" + FULL_ROW)
DELETE = changed(b"D", b"K" + FULL_ROW)


@pytest.mark.parametrize(
    "data", [INSERT, UPDATE, DELETE, relation(), message(b"content"), b"T" + struct.pack(">IBI", 1, 0, OID)]
)
def test_a_message_cut_short_anywhere_halts(data: bytes) -> None:
    for end in range(len(data)):
        decoder = Decoder(Describer())
        decoder.feed(relation())
        decoder.feed(begin())
        with pytest.raises(Halt):
            decoder.feed(data[:end])
        assert decoder.changes == []


@given(st.lists(st.binary(max_size=200) | st.builds(bytes.__add__, st.sampled_from([INSERT, UPDATE]), st.binary())))
def test_arbitrary_bytes_are_decoded_or_refused_but_never_crash(messages: list[bytes]) -> None:
    decoder = Decoder(Describer())
    decoder.feed(relation())
    decoder.feed(begin())
    for data in messages:
        with suppress(Halt):
            decoder.feed(data)


@given(st.data())
def test_damaged_messages_are_decoded_or_refused_but_never_crash(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([INSERT, UPDATE, DELETE, relation(), message(b"x"), begin()])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decoder = Decoder(Describer())
    decoder.feed(relation())
    with suppress(Halt):
        decoder.feed(bytes(damaged))
