"""What every Source, its Stream and its TableReader must do, as one suite.

An engine joins with a module that subclasses `SourceContract` and gives it an `engine` fixture: a `SourceEngine` on
an empty database of a real server.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from time import monotonic

import pytest

from connectors.base import Source, Stream
from tests.contract.reader_contract import ReaderContract
from tests.contract.source_engine import LIMIT, PATIENCE, SourceEngine, commit_of, following, insert_one_by_one
from worker_sync.core.change import Message, Piece
from worker_sync.core.clock import skew
from worker_sync.core.errors import Halt, State, Transient
from worker_sync.core.schema import Kind, TableName


def read_on(stream: Stream) -> None:
    """Read until something is wrong, for a bounded time."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        stream.read(0.1, LIMIT)


def require_memory(engine: SourceEngine) -> None:
    if not engine.remembers_confirmations:
        pytest.skip("the engine's server does not keep up to where a stream is confirmed")


class SourceContract(ReaderContract):
    """The suite; see the module's text."""

    # The stream

    def test_changes_arrive_in_order_with_keys_and_rows(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "one", "note": None})
            writer.update(items, {"id": 1}, {"name": "uno"})
            writer.delete(items, {"id": 1})
        with following(source, start) as follower:
            changes = follower.read_changes(3)
            schema = follower.stream.schemas[changes[0][1].table]
        assert schema.table == items
        assert schema.column_names == engine.column_names
        assert schema.key == engine.key_names
        assert [(change.ordinal, str(change.op), change.key, change.after) for _, change in changes] == [
            (1, "c", None, engine.row(items, {"id": 1, "name": "one", "note": None})),
            (2, "u", None, engine.row(items, {"id": 1, "name": "uno", "note": None})),
            (3, "d", engine.key(items, 1), None),
        ]

    def test_a_truncate_arrives_in_its_place(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        if not engine.truncates:
            pytest.skip("the engine has no truncate in its log")
        with engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "gone", "note": None})
            writer.truncate(items)
            writer.insert(items, {"id": 2, "name": "stays", "note": None})
        with following(source, start) as follower:
            changes = follower.read_changes(3)
        assert [str(change.op) for _, change in changes] == ["c", "t", "c"]
        truncate = changes[1][1]
        assert (truncate.key, truncate.before, truncate.after) == (None, None, None)

    def test_rows_of_one_statement_share_a_position_and_have_rising_ordinals(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            writer.insert(items, *({"id": number, "name": "x", "note": None} for number in range(50)))
        with following(source, start) as follower:
            changes = follower.read_changes(50)
        assert len({info.commit for info, _ in changes}) == 1
        assert [change.ordinal for _, change in changes] == list(range(1, 51))

    def test_a_key_change_carries_the_old_key(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        if not engine.changes_keys:
            pytest.skip("the engine's keys never change")
        with engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "one", "note": None})
        with engine.transaction() as writer:
            writer.update(items, {"id": 1}, {"id": 2})
        with following(source, start) as follower:
            _, change = follower.read_changes(2)[1]
        assert (str(change.op), change.key) == ("u", (1,))
        assert change.after is not None
        assert change.after[0] == 2

    def test_transactions_arrive_in_the_order_of_their_commits(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as outer:
            outer.insert(items, {"id": 1, "name": "began first, committed last", "note": None})
            with engine.transaction() as inner:
                inner.insert(items, {"id": 2, "name": "began last, committed first", "note": None})
            outer.insert(items, {"id": 3, "name": "after the other's commit", "note": None})
        with following(source, start) as follower:
            changes = follower.read_changes(3)
        assert follower.ids(engine) == [2, 1, 3]
        assert [change.ordinal for _, change in changes] == [1, 1, 2]
        assert start < changes[0][0].commit < changes[1][0].commit == changes[2][0].commit
        assert changes[0][0].committed_at <= changes[1][0].committed_at

    def test_a_rolled_back_transaction_does_not_arrive(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with suppress(ZeroDivisionError), engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "never", "note": None})
            raise ZeroDivisionError
        with engine.transaction() as writer:
            writer.insert(items, {"id": 2, "name": "committed", "note": None})
        with following(source, start) as follower:
            follower.read_changes(1)
        assert follower.ids(engine) == [2]

    def test_a_reopened_stream_delivers_exactly_what_was_not_confirmed(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, range(6))
        with following(source, start) as follower:
            before = follower.read_changes(6)
        for confirmed in (0, 1, 2, 4):
            position = before[confirmed][0].commit
            with following(source, start) as follower:
                follower.stream.confirm(position)
            start = position
            with following(source, start) as follower:
                again = follower.read_changes(5 - confirmed)
            assert [info.commit for info, _ in again] == [info.commit for info, _ in before[confirmed + 1 :]]

    def test_a_stream_that_was_confirmed_to_its_end_delivers_only_what_comes_then(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, [1])
        for number in range(2, 6):
            with following(source, start) as follower:
                follower.read_changes(1)
                follower.read_to(source.stream_status().head)
                start = follower.reached
                follower.stream.confirm(start)
            insert_one_by_one(engine, items, [number])
            with following(source, start) as follower:
                follower.read_changes(1)
            assert follower.ids(engine) == [number]

    def test_an_unconfirmed_transaction_arrives_again_as_the_same(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, range(3))
        with following(source, start) as follower:
            first = follower.read_changes(3)
        with following(source, start) as follower:
            assert follower.read_changes(3) == first

    def test_a_stream_can_start_later_than_what_is_confirmed(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, range(3))
        with following(source, start) as follower:
            first = follower.read_changes(3)
        with following(source, first[0][0].commit) as follower:
            assert follower.read_changes(2) == first[1:]

    def test_a_stream_does_not_start_before_what_is_confirmed(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        require_memory(engine)
        insert_one_by_one(engine, items, range(2))
        with following(source, start) as follower:
            follower.stream.confirm(follower.read_changes(2)[1][0].commit)
        with pytest.raises(Halt) as halt:
            source.open_stream(start)
        assert halt.value.state is State.POSITION_LOST
        assert "worker-sync resync" in halt.value.recovery

    def test_a_confirmation_never_goes_back(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        require_memory(engine)
        insert_one_by_one(engine, items, range(2))
        with following(source, start) as follower:
            first, second = (info.commit for info, _ in follower.read_changes(2))
            follower.stream.confirm(second)
            follower.stream.confirm(first)
        assert source.stream_status().confirmed >= second

    def test_a_large_transaction_arrives_in_pieces(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            for base in range(0, 1_000, 250):
                writer.insert(items, *({"id": base + n, "name": "x", "note": None} for n in range(250)))
        insert_one_by_one(engine, items, [1_000])
        with following(source, start, limit=100) as follower:
            changes = follower.read_changes(1_001)
            pieces = follower.pieces
        assert all(len(piece.changes) <= 100 for piece in pieces)
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 2) + [True, True]
        assert [change.ordinal for _, change in changes] == [*range(1, 1_001), 1]
        assert follower.ids(engine) == list(range(1_001))

    def test_a_transaction_of_exactly_the_limit_is_one_piece(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with engine.transaction() as writer:
            writer.insert(items, *({"id": number, "name": "x", "note": None} for number in range(100)))
        with following(source, start, limit=100) as follower:
            follower.read_changes(100)
            assert [(len(piece.changes), piece.last) for piece in follower.pieces] == [(100, True)]

    def test_the_messages_of_a_transaction_come_with_it(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        if not engine.messages:
            pytest.skip("the engine has no messages in its log")
        with engine.transaction() as writer:
            writer.message("worker_sync.context", b"who")
            writer.insert(items, {"id": 1, "name": "x", "note": None})
        with following(source, start) as follower:
            follower.read_changes(1)
            assert follower.pieces[0].messages == [Message("worker_sync.context", b"who")]

    def test_what_is_emitted_arrives_after_all_that_was_committed_before(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, [1])
        position = source.emit("worker_sync.mark", b"\x00\xff")
        insert_one_by_one(engine, items, [2])
        with following(source, start) as follower:
            changes = follower.read_changes(2)
            carrier = next(piece for piece in follower.pieces if piece.messages)
        assert carrier.messages == [Message("worker_sync.mark", b"\x00\xff")]
        assert (carrier.changes, carrier.last) == ([], True)
        assert changes[0][0].commit < position <= carrier.info.commit < changes[1][0].commit

    def test_progress_follows_the_log_while_nothing_happens_to_the_tables(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with following(source, start) as follower:
            for _ in range(3):
                engine.stir()
                follower.read_to(source.stream_status().head)
            follower.stream.confirm(follower.reached)
            assert not follower.changes
        if engine.remembers_confirmations:
            assert source.stream_status().confirmed == follower.reached

    def test_a_transaction_that_commits_next_is_not_covered_by_the_progress_before(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with following(source, start) as follower:
            with engine.transaction() as writer:
                writer.insert(items, {"id": 1, "name": "all but its commit is in the log", "note": None})
                engine.stir()
                follower.read_to(source.stream_status().head)
                reached = follower.reached
                follower.stream.confirm(reached)
            info, _ = follower.read_changes(1)[0]
        assert info.commit > reached
        with following(source, reached) as follower:
            assert follower.read_changes(1)[0][0] == info

    def test_positions_of_all_that_arrives_rise(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        with following(source, start, limit=10) as follower:
            for number in range(0, 60, 20):
                engine.stir()
                insert_one_by_one(engine, items, [number])
                with engine.transaction() as writer:
                    writer.insert(items, *({"id": number + n, "name": "x", "note": None} for n in range(1, 20)))
                follower.read_to(source.stream_status().head)
        commits = [start, *(commit_of(item) for item in follower.items)]
        assert all(one <= other for one, other in pairwise(commits))

    def test_reading_returns_empty_handed_after_the_timeout(self, source: Source, start: str) -> None:
        with following(source, start) as follower:
            follower.read_to(source.stream_status().head)
            began = monotonic()
            assert [item for item in follower.stream.read(0.2, LIMIT) if isinstance(item, Piece)] == []
            assert monotonic() - began < 5

    # The server side

    def test_the_fingerprint_changes_with_the_tables_and_not_with_their_rows(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        before = source.fingerprint()
        insert_one_by_one(engine, items, range(3))
        assert source.fingerprint() == before
        engine.create_table("other", {"id": Kind.INT}, ["id"])
        assert source.fingerprint() != before

    def test_creating_the_stream_again_keeps_its_position(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        insert_one_by_one(engine, items, [1])
        assert source.create_stream([items]).commit == start
        with following(source, start) as follower:
            assert len(follower.read_changes(1)) == 1

    def test_the_stream_has_the_tables_that_it_was_last_created_with(
        self, engine: SourceEngine, source: Source, items: TableName, start: str
    ) -> None:
        other = engine.create_table("other", {"id": Kind.INT}, ["id"])
        assert source.create_stream([other]).commit == start
        with engine.transaction() as writer:
            writer.insert(items, {"id": 1, "name": "not ours any more", "note": None})
            writer.insert(other, {"id": 2})
        with following(source, start) as follower:
            changes = follower.read_changes(1)
            tables = [follower.stream.schemas[change.table].table for _, change in changes]
        assert tables == [other]

    def test_a_table_that_does_not_exist_halts_and_creates_nothing(
        self, engine: SourceEngine, source: Source, items: TableName
    ) -> None:
        with pytest.raises(Halt) as halt:
            source.create_stream([items, TableName(items.namespace, "missing")])
        assert "missing" in halt.value.detail
        assert not source.stream_status().exists

    def test_a_dropped_stream_is_named_when_it_is_opened(self, source: Source, start: str) -> None:
        assert source.stream_status().exists
        source.drop_stream()
        source.drop_stream()
        assert not source.stream_status().exists
        with pytest.raises(Halt) as halt:
            source.open_stream(start)
        assert halt.value.state is State.SLOT_MISSING
        assert "worker-sync resync" in halt.value.recovery

    def test_a_second_reader_of_the_stream_is_told_to_wait(self, source: Source, start: str) -> None:
        with following(source, start):
            assert source.stream_status().active
            with pytest.raises(Transient, match=r"another process|active"):
                source.open_stream(start)

    def test_a_reader_that_was_cut_off_ends_and_the_stream_is_free(self, source: Source, start: str) -> None:
        with following(source, start) as follower:
            source.cut_off()
            with source.open_stream(start) as another:
                assert source.stream_status().active
                with pytest.raises(Transient):
                    read_on(follower.stream)
                another.tick()

    def test_cutting_off_nobody_is_no_error(self, source: Source, start: str) -> None:
        source.cut_off()
        source.drop_stream()
        source.cut_off()

    def test_the_identity_is_stable(self, engine: SourceEngine, source: Source) -> None:
        with engine.source() as another:
            assert source.identity() == another.identity() != ""

    def test_a_source_tells_the_time(self, source: Source) -> None:
        found = skew(source.now)
        assert source.now().tzinfo is not None
        assert not found.exceeds(2), f"the server runs on this machine, but is {found}"

    def test_tables_are_listed_in_name_order(self, engine: SourceEngine, source: Source) -> None:
        names = [engine.create_table(name, {"id": Kind.INT}, ["id"]) for name in ("b", "a", "c")]
        assert [schema.table for schema in source.tables()] == sorted(names)

    def test_preflight_passes_where_capture_works_and_names_a_missing_table(
        self, source: Source, items: TableName
    ) -> None:
        assert [finding for finding in source.preflight([items]) if not finding.ok] == []
        missing = TableName(items.namespace, "missing")
        failed = [finding for finding in source.preflight([items, missing]) if finding.ok is False]
        assert [finding.check for finding in failed] == [f"table {missing}"]
        assert all(finding.fix for finding in failed)
