"""The replication connection: asking the server for its log, and cutting what it sends into events."""

from __future__ import annotations

import select
import ssl
import struct
from typing import Any, Final
from zlib import crc32

import pymysql
from pymysql.constants import COMMAND

from connectors.mysql.binlog import events
from connectors.mysql.binlog.events import CHECKSUM_SIZE, HEADER, HEADER_SIZE, Event, malformed
from worker_sync.core.errors import Transient

#: Seconds between two signs of life while the server has nothing to send.
HEARTBEAT_S: Final = 5
#: How long the server may wait for us to take what it sends, in seconds: reading pauses while targets are slow.
WRITE_TIMEOUT_S: Final = 7 * 24 * 3600
#: Longest wait for the rest of what has begun to arrive, in seconds.
_STALL_S: Final = 60.0
_RECEIVE: Final = 1 << 18
_WHOLE_PACKET: Final = 0xFFFFFF
#: Dump flags: end at the log's end instead of waiting; send MariaDB's statement texts.
NON_BLOCKING: Final = 1
ANNOTATE: Final = 2

_OK: Final = 0
_END: Final = b"\xfe"
_ERROR: Final = b"\xff"


class EndOfLog(Exception):
    """The server has sent all that there is, and was asked not to wait for more."""


class Link:
    """Events from one connection that has been told to dump. Raises PyMySQL's errors for the server's, and Transient
    for a broken connection."""

    def __init__(self, conn: pymysql.Connection[Any], server_id: int) -> None:
        self._conn = conn
        self._server_id = server_id
        self._sock: Any = conn._sock  # type: ignore[attr-defined]  # PyMySQL has no other way to a raw stream
        self._poll = select.poll()
        self._poll.register(self._sock.fileno(), select.POLLIN)
        self._data = b""
        self._at = 0
        self._chunks: list[bytes] = []
        self._arrived = 0
        self._missing = 0
        self._parts: list[bytes] = []
        self._checksums = False
        self._file_known = False

    def request(self, file: str, position: int, *, flags: int = ANNOTATE) -> None:
        """Ask for the log from that place on. Changes the session for good."""
        with self._conn.cursor() as cursor:
            for statement in _SESSION:
                cursor.execute(statement)
        self._register()
        self._sock.settimeout(_STALL_S)
        self._send(struct.pack("<BIHI", COMMAND.COM_BINLOG_DUMP, position, flags, self._server_id) + file.encode())

    def _register(self) -> None:
        nothing = b"\0"
        body = struct.pack("<BI", COMMAND.COM_REGISTER_SLAVE, self._server_id) + nothing * 3
        self._send(body + struct.pack("<HII", 0, 0, 0))
        self._conn._read_ok_packet()  # type: ignore[attr-defined]

    def _send(self, command: bytes) -> None:
        self._conn._next_seq_id = 1  # type: ignore[attr-defined]
        self._sock.sendall(len(command).to_bytes(3, "little") + b"\0" + command)

    # -- packets

    def wait(self, seconds: float) -> bool:
        """Receive what is there, waiting up to so long for it; False when nothing came."""
        pending = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        if not pending and not self._poll.poll(max(0.0, seconds) * 1000):
            return False
        try:
            chunk = self._sock.recv(_RECEIVE)
        except OSError as error:
            raise Transient(f"the connection to the server broke: {error.strerror or type(error).__name__}") from error
        if not chunk:
            raise Transient("the server closed the connection")
        self._chunks.append(chunk)
        self._arrived += len(chunk)
        # Joining once per packet, not once per chunk, keeps large packets linear.
        if self._arrived >= self._missing:
            self._data = b"".join((self._data[self._at :], *self._chunks))
            self._at = self._arrived = self._missing = 0
            self._chunks.clear()
        return True

    def _packet(self) -> bytes | None:
        """The next whole packet, put together where it was sent in parts; None when it has not arrived."""
        while True:
            data, at = self._data, self._at
            size = int.from_bytes(data[at : at + 3], "little")
            end = at + 4 + size
            if end > len(data) or len(data) < at + 4:
                self._missing = max(4, 4 + size) - (len(data) - at)
                return None
            self._at = end
            body = data[at + 4 : end]
            if size == _WHOLE_PACKET:
                self._parts.append(body)
            elif self._parts:
                body = b"".join((*self._parts, body))
                self._parts = []
                return body
            else:
                return body

    # -- events

    def event(self) -> Event | None:
        """The next event that has arrived, its checksum verified; None when there is none yet. Raises EndOfLog."""
        packet = self._packet()
        if packet is None:
            return None
        if not packet or packet[0] != _OK:
            self._refused(packet)
        if len(packet) <= HEADER_SIZE + CHECKSUM_SIZE:
            raise malformed("an event without a header")
        time, kind, server, size, end, flags = HEADER.unpack_from(packet, 1)
        if size != len(packet) - 1:
            raise malformed("an event of another size than it says")
        if kind == events.FORMAT_DESCRIPTION:
            self._checksums = _has_checksums(packet)
        stop = len(packet)
        if self._is_checked(packet, kind, flags):
            stop -= CHECKSUM_SIZE
        elif kind == events.FORMAT_DESCRIPTION:
            stop -= CHECKSUM_SIZE  # the place is there without checksums too
        return Event(kind, time, server, flags, size, end, packet[1 + HEADER_SIZE : stop])

    def _is_checked(self, packet: bytes, kind: int, flags: int) -> bool:
        """Whether the event ends with a checksum, which is right. The rotate event that the server makes up has one or
        not before the file's description has said so."""
        if not self._checksums and kind != events.ROTATE:
            return False
        right = crc32(memoryview(packet)[1:-CHECKSUM_SIZE]) == int.from_bytes(packet[-CHECKSUM_SIZE:], "little")
        if kind == events.ROTATE and flags & events.ARTIFICIAL:
            return right
        if self._checksums and not right:
            raise Transient("an event of the binlog arrived with a wrong checksum")
        return self._checksums

    def _refused(self, packet: bytes) -> None:
        if packet[:1] == _ERROR:
            pymysql.err.raise_mysql_exception(packet)
        if packet[:1] == _END:
            raise EndOfLog
        raise malformed(f"a packet that begins with {packet[:1]!r}")

    def close(self) -> None:
        """Close the connection without a word: the server would not listen."""
        self._conn._force_close()  # type: ignore[attr-defined]


#: What the server is told before the dump; each name is for another family or version.
_SESSION: Final = (
    f"SET SESSION net_write_timeout = {WRITE_TIMEOUT_S}",
    f"SET @master_heartbeat_period = {HEARTBEAT_S}000000000, @source_heartbeat_period = {HEARTBEAT_S}000000000",
    "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'",
    "SET @mariadb_slave_capability = 4",
)


def _has_checksums(packet: bytes) -> bool:
    algorithm = packet[-CHECKSUM_SIZE - 1]
    if algorithm > 1:
        raise malformed(f"events with unknown checksums ({algorithm})")
    return algorithm == 1
