"""What is encoded is decoded, and nothing else is."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker_sync.core.change import Batch, Change, Op, Section, Session, SnapshotMark, TransactionInfo
from worker_sync.core.codec import COMPRESS_FROM, MAX_BODY, VERSION, decode, encode
from worker_sync.core.errors import UndecodableBatch
from worker_sync.core.position import BEGINNING, WHOLE, Position
from worker_sync.core.schema import Column, Kind, TableName, TableSchema, Type
from worker_sync.core.values import UNCHANGED

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.just(UNCHANGED)
)
rows = st.lists(scalars, max_size=6).map(tuple)
changes = st.builds(
    Change,
    ordinal=st.integers(1, WHOLE),
    op=st.sampled_from(list(Op)),
    table=st.integers(0, 3),
    key=st.none() | rows,
    before=st.none() | rows,
    after=st.none() | rows,
)
types = st.builds(
    Type,
    kind=st.sampled_from(list(Kind)),
    native=st.text(),
    size=st.none() | st.integers(0, 64),
    unsigned=st.booleans(),
    labels=st.lists(st.text()).map(tuple),
    element=st.none() | st.builds(Type, kind=st.sampled_from(list(Kind))),
)
schemas = st.builds(
    TableSchema,
    table=st.builds(TableName, st.text(), st.text()),
    columns=st.lists(st.builds(Column, st.text(), types, st.booleans()), max_size=3).map(tuple),
    key=st.lists(st.text(), max_size=2).map(tuple),
    engine=st.text(),
)
batches = st.builds(
    Batch,
    source=st.text(),
    pipeline=st.text(),
    shard=st.integers(0, 100),
    epoch=st.integers(0, 2**40),
    after=st.builds(Position, st.text(), st.integers(0, WHOLE), st.integers(0, 9)),
    upto=st.builds(Position, st.text()),
    sections=st.lists(
        st.builds(
            Section,
            st.builds(TransactionInfo, st.text(), st.integers(0, 2**50), st.text()),
            st.integers(0, 9),
            st.text(),
            st.none() | st.builds(Session, st.text(), st.none() | st.text(), st.none() | st.text()),
        )
    ),
    tables=st.dictionaries(st.integers(0, 3), schemas, max_size=2),
    changes=st.lists(changes, max_size=4),
    snapshot=st.none() | st.builds(SnapshotMark, st.text(), st.integers(1, 9), st.none() | rows, st.booleans()),
    split=st.booleans(),
    loading=st.lists(st.integers(0, 3), max_size=2),
)


def small(*row: Any) -> Batch:
    change = Change(1, Op.INSERT, 1, None, None, row)
    info = TransactionInfo("0a", 1)
    return Batch("s", "p", 0, 1, BEGINNING, Position("0a"), [Section(info, 1)], {}, [change])


@given(batches)
@example(small("x" * COMPRESS_FROM, UNCHANGED, b"\x00" * COMPRESS_FROM))
def test_a_batch_reads_back_as_it_was_written(batch: Batch) -> None:
    assert decode(encode(batch)) == batch


def test_values_keep_their_types() -> None:
    row = (None, True, 1, 1.0, -0.0, float("inf"), "1", b"1", UNCHANGED, 2**64 - 1, -(2**63))
    after = decode(encode(small(*row))).changes[0].after
    assert after is not None
    assert [(type(value), repr(value)) for value in after] == [(type(value), repr(value)) for value in row]
    assert after[8] is UNCHANGED


def test_large_batches_are_compressed() -> None:
    assert len(encode(small("x" * 10 * COMPRESS_FROM))) < COMPRESS_FROM
    assert encode(small("x"))[:2] == bytes((VERSION, 0))


def test_a_value_without_a_wire_form_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="complex is not a canonical value"):
        encode(small(1j))


@pytest.mark.parametrize("known", [3, 2])
def test_sections_of_before_sessions_and_contexts_are_read(known: int) -> None:
    batch = small(1)
    parts = msgspec.msgpack.decode(encode(batch)[2:])
    parts["sections"] = [section[:known] for section in parts["sections"]]
    assert decode(encode(small(1))[:2] + msgspec.msgpack.encode(parts)) == batch


def test_an_unknown_version_is_refused_by_number() -> None:
    with pytest.raises(UndecodableBatch, match="version 2"):
        decode(bytes((2,)) + encode(small(1))[1:])


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x07abc", b"\x01\x00", b"\x01\x01", b"\x01\x01not zstd at all"])
def test_fragments_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableBatch):
        decode(data)


@given(st.integers(0), st.integers(1, 255))
def test_damaged_bytes_are_refused_or_decode_to_a_batch(place: int, flip: int) -> None:
    data = bytearray(encode(small("text", 1, b"bytes", UNCHANGED)))
    data[place % len(data)] ^= flip
    with contextlib.suppress(UndecodableBatch):
        assert isinstance(decode(bytes(data)), Batch)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("size", [10, COMPRESS_FROM])
def test_cut_off_bytes_are_refused(keep: float, size: int) -> None:
    data = encode(small("x" * size))
    with pytest.raises(UndecodableBatch):
        decode(data[: int(len(data) * keep)])


def test_an_unknown_extension_is_refused() -> None:
    body = msgspec.msgpack.encode(small("here"))
    ours = msgspec.msgpack.encode("here")
    foreign = msgspec.msgpack.encode(msgspec.msgpack.Ext(7, b"abcd"))
    assert ours in body
    with pytest.raises(UndecodableBatch):
        decode(bytes((VERSION, 0)) + body.replace(ours, foreign))


def test_a_body_that_claims_too_much_memory_is_refused() -> None:
    # A frame header with an eight-byte content size.
    frame = b"\x28\xb5\x2f\xfd\xe0" + (MAX_BODY + 1).to_bytes(8, "little")
    with pytest.raises(UndecodableBatch, match="larger"):
        decode(bytes((VERSION, 1)) + frame)
