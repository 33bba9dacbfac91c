"""The log stream of one slot: COPY BOTH over libpq, assembled into pieces of transactions.

The server's messages inside COPY: `w` (header of 25 bytes, then a pgoutput message) and `k` (keepalive). Ours: `r`
(standby status). A status that confirms LSN F makes the server skip transactions whose commit record begins before
F, so confirming commit position C sends C + 1. A keepalive's LSN X is the end of what was decoded; a commit record
may still begin exactly there, so outside a transaction it means progress up to X - 1.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from struct import Struct
from typing import Final

import psycopg
from psycopg import generators, sql
from psycopg.pq import ConnStatus, ExecStatus

from connectors.base import Stream
from connectors.postgres.conn import READ_SETTINGS, connect, redact
from connectors.postgres.errors import one_line, translate
from connectors.postgres.pgoutput import Decoder, format_lsn
from connectors.postgres.relations import Relations
from worker_sync.core.change import Piece, Progress
from worker_sync.core.errors import Halt, State, Transient, WorkerSyncError
from worker_sync.core.schema import TableSchema

#: A transaction is cut once its undelivered part took this many bytes of the log stream, however few its rows.
PIECE_BYTES: Final = 16 * 1024 * 1024
#: Longest time between two standby statuses, in seconds; less where the server's wal_sender_timeout asks for it. One
#: that is sent after as long a silence asks for an answer.
STATUS_INTERVAL: Final = 10.0
#: Shortest time between two statuses that only carry a confirmation, in seconds.
CONFIRM_INTERVAL: Final = 0.1
#: How long `close` waits for the server to end the stream, in seconds.
CLOSE_TIMEOUT: Final = 2.0

_HEADER: Final = 25
_KEEPALIVE: Final = Struct(">xQqB").unpack
_STATUS: Final = Struct(">cQQQqB").pack
_DATA: Final = ord("w")
_ALIVE: Final = ord("k")
_RESYNC: Final = "worker-sync resync PIPELINE"


class PostgresStream(Stream):
    """Streams the transactions whose commit position is greater than `start`."""

    def __init__(
        self, url: str, slot: str, publication: str, start: str, remembered: Sequence[TableSchema] = ()
    ) -> None:
        """`remembered`: see `Source.remembered`."""
        self._where = f"{redact(url)} slot {slot}"
        self._relations = Relations(url, remembered)
        self._decoder = Decoder(self._relations.describe)
        self.schemas = self._relations.schemas
        self.truncated = self._decoder.truncated
        self._received = _after(start)
        # 0 confirms nothing: the server ignores it.
        self._confirmed = 0
        self._confirm_pending = False
        self._progress = ""
        self._size = 0
        self._over = ""
        self._conn = connect(url, {**READ_SETTINGS, "client_min_messages": "warning"}, replication=True)
        self._conn.add_notice_handler(self._notice)
        self._pg = self._conn.pgconn
        self._left_out = ""
        try:
            self._interval = min(STATUS_INTERVAL, self._sender_timeout() / 4)
            #: The timeline of the log that is read.
            self.timeline = self._identified()
            self._start(slot, publication, _after(start))
        except BaseException:
            self._conn.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)
        self._status_at = self._heard_at = time.monotonic()

    def _sender_timeout(self) -> float:
        """The server's wal_sender_timeout in seconds; endless when it is off."""
        (text,) = self._conn.execute("SHOW wal_sender_timeout").fetchone() or ("0",)
        for unit, seconds in (("ms", 0.001), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)):
            if text.removesuffix(unit).isdigit():
                return int(text.removesuffix(unit)) * seconds or float("inf")
        return STATUS_INTERVAL

    def _identified(self) -> int:
        row = self._conn.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        return int(row[1])

    def _start(self, slot: str, publication: str, lsn: int) -> None:
        command = sql.SQL(
            "START_REPLICATION SLOT {slot} LOGICAL {lsn} "
            "(proto_version '1', publication_names {publication}, messages 'true')"
        ).format(
            slot=sql.Identifier(slot),
            lsn=sql.SQL(f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"),
            publication=sql.Literal(f'"{publication}"'),
        )
        self._pg.send_query(command.as_bytes(self._conn))
        result = self._conn.wait(generators.execute(self._pg))[-1]
        if result.status != ExecStatus.COPY_BOTH:
            raise self._failure(psycopg.errors.error_from_result(result))
        self._pg.nonblocking = 1

    # Reading

    def read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        """See `Stream.read`. A transaction whose rows are very large comes in several pieces whatever `limit` is.

        After an error the stream is over, and every further call says so."""
        if self._over:
            raise Transient(f"{self._where}: the stream ended: {self._over}")
        try:
            return self._read(timeout, limit)
        except WorkerSyncError as error:
            self._over = error.detail
            raise
        except psycopg.Error as error:
            failure = self._failure(error)
            self._over = failure.detail
            raise failure from error

    def _read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        deadline = time.monotonic() + timeout
        while True:
            out = self._drain(limit)
            if not out:
                self._pg.consume_input()
                out = self._drain(limit)
            self._keep_alive()
            left = deadline - time.monotonic()
            if out or left <= 0:
                self._check_silence()
                return out
            self._poll.poll(min(left, self._interval) * 1000)

    def _drain(self, limit: int) -> list[Piece | Progress]:
        """What has arrived in whole messages, up to about `limit` changes or as many bytes as a piece may have."""
        out: list[Piece | Progress] = []
        decoder, feed, receive = self._decoder, self._decoder.feed, self._pg.get_copy_data
        taken = received = 0
        while taken < limit and received < PIECE_BYTES:
            size, view = receive(1)
            if size == 0:
                break
            if size < 0:
                self._ended()
            data = bytes(view)
            if data[0] != _DATA:
                self._other(data)
                continue
            self._size += size
            received += size
            if feed(data[_HEADER:]):
                taken += self._commit(out)
            elif len(decoder.changes) > limit or self._size > PIECE_BYTES:
                taken += self._cut(out)
        if received:
            self._heard_at = time.monotonic()
        if self._left_out:
            raise Halt(State.SLOT_MISSING, f"{self._where}: {self._left_out}", _RESYNC)
        if self._progress:
            out.append(Progress(self._progress))
            self._progress = ""
        return out

    def _commit(self, out: list[Piece | Progress]) -> int:
        decoder = self._decoder
        info, changes = decoder.info, decoder.changes
        assert info is not None
        decoder.info = None
        if changes or decoder.messages:
            out.append(Piece(info, changes, True, self._size, decoder.messages))
            decoder.changes, decoder.messages = [], []
            self._progress = ""
        else:
            self._progress = info.commit
        self._size = 0
        self._received = _after(info.commit)
        return len(changes)

    def _cut(self, out: list[Piece | Progress]) -> int:
        """Deliver the open transaction's changes except the newest, so that its last piece is never empty."""
        decoder = self._decoder
        if decoder.info is None:
            raise Halt(State.UNKNOWN_MESSAGE, "rows outside a transaction", _RESYNC)
        changes = decoder.changes
        if len(changes) < 2:
            return 0
        decoder.changes = [changes.pop()]
        out.append(Piece(decoder.info, changes, False, self._size, decoder.messages))
        decoder.messages = []
        self._size = 0
        self._progress = ""
        return len(changes)

    def _other(self, data: bytes) -> None:
        if data[0] != _ALIVE:
            raise Halt(
                State.UNKNOWN_MESSAGE,
                f"replication message {data[:1]!r}",
                "upgrade Worker-Sync, then worker-sync resume PIPELINE",
            )
        self._heard_at = time.monotonic()
        end, _, reply = _KEEPALIVE(data)
        if self._decoder.info is None and end > self._received:
            self._received = end
            self._progress = format_lsn(end - 1)
        if reply:
            self._send_status()

    def _ended(self) -> None:
        """The server ended the COPY: raise why."""
        result = self._pg.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        raise Transient(f"{self._where}: the server ended the stream")

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """From version 18 on the server leaves out the changes of a publication that is missing, with a warning; it
        comes before whatever follows those changes."""
        if diagnostic.sqlstate == "55000":
            self._left_out = diagnostic.message_primary or "the server left changes out"

    def _failure(self, error: psycopg.Error) -> WorkerSyncError:
        code = error.sqlstate or ""
        if code == "55006":
            return Transient(f"{self._where}: {one_line(error)} (another process is reading it)")
        if code == "42704":
            return Halt(State.SLOT_MISSING, f"{self._where}: {one_line(error)}", _RESYNC)
        if code == "55000":
            return Halt(State.SLOT_INVALIDATED, f"{self._where}: {one_line(error)}", _RESYNC)
        return translate(error, self._where)

    # Talking back

    def tick(self) -> None:
        if self._over:
            return
        try:
            self._keep_alive()
        except psycopg.Error as error:
            raise self._failure(error) from error
        # Nobody listens: silence says nothing.
        self._heard_at = time.monotonic()

    def confirm(self, commit: str) -> None:
        after = _after(commit)
        if after > self._confirmed:
            self._confirmed = after
            self._confirm_pending = True

    def _keep_alive(self) -> None:
        wait = CONFIRM_INTERVAL if self._confirm_pending else self._interval
        if time.monotonic() - self._status_at >= wait:
            self._send_status()
        else:
            self._pg.flush()

    def _send_status(self) -> None:
        now = time.monotonic()
        wants_answer = now - self._heard_at > self._interval
        # The clock is for the server's statistics only.
        received = max(self._received, self._confirmed)
        self._pg.put_copy_data(_STATUS(b"r", received, self._confirmed, self._confirmed, 0, wants_answer))
        self._pg.flush()
        self._confirm_pending = False
        self._status_at = now

    def _check_silence(self) -> None:
        """A server answers a status that asks for it, unless it is deep in a transaction that is not for us."""
        silent_s = time.monotonic() - self._heard_at
        if silent_s <= self._conn.silent_s:
            return
        if not self._conn.is_working():
            raise Transient(f"{self._where}: nothing was heard of the server for {silent_s:.0f} s")
        self._heard_at = time.monotonic()

    def abandon(self) -> None:
        """Close without a last word to the server."""
        self._over = self._over or "abandoned"
        self.close()

    def close(self) -> None:
        """Hand over the last confirmation and wait until the server has let go of the slot."""
        self._relations.close()
        if self._conn.closed:
            return
        try:
            if not self._over and self._pg.status == ConnStatus.OK:
                self._finish()
        except psycopg.Error:
            # Broken: the server lets go of the slot by itself, and the confirmation is repeated by the next stream.
            self._over = self._over or "closed"
        finally:
            self._over = self._over or "closed"
            self._conn.close()

    def _finish(self) -> None:
        """End the COPY in both directions. Closing the socket instead could throw the confirmation away: data that
        nobody read makes it a reset."""
        self._send_status()
        self._pg.put_copy_end()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while time.monotonic() < deadline:
            self._pg.flush()
            size, _ = self._pg.get_copy_data(1)
            if size < 0:
                # The slot is free once the command is complete.
                self._pg.nonblocking = 0
                while self._pg.get_result() is not None:
                    pass
                return
            if size == 0:
                self._poll.poll(100)
                self._pg.consume_input()


def _after(commit: str) -> int:
    """The LSN just behind a commit record; 0 for the beginning of everything."""
    return int(commit, 16) + 1 if commit else 0
