"""Kinds of binlog events and their common header.

The header (19 bytes, little endian): time in seconds, type, server id, size, end position in the file, flags. Where the
format is from: MySQL's `libs/mysql/binlog/event/binlog_event.h`, MariaDB's `sql/log_event.h`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from worker_sync.core.errors import Halt, State

#: Time, type, server id, size, end position, flags.
HEADER: Final = Struct("<IBIIIH")
HEADER_SIZE: Final = 19
CHECKSUM_SIZE: Final = 4

QUERY: Final = 2
STOP: Final = 3
ROTATE: Final = 4
INTVAR: Final = 5
RAND: Final = 13
USER_VAR: Final = 14
FORMAT_DESCRIPTION: Final = 15
XID: Final = 16
BEGIN_LOAD_QUERY: Final = 17
EXECUTE_LOAD_QUERY: Final = 18
TABLE_MAP: Final = 19
WRITE_ROWS_V1: Final = 23
UPDATE_ROWS_V1: Final = 24
DELETE_ROWS_V1: Final = 25
INCIDENT: Final = 26
HEARTBEAT: Final = 27
ROWS_QUERY: Final = 29
WRITE_ROWS: Final = 30
UPDATE_ROWS: Final = 31
DELETE_ROWS: Final = 32
GTID: Final = 33
ANONYMOUS_GTID: Final = 34
PREVIOUS_GTIDS: Final = 35
XA_PREPARE: Final = 38
PARTIAL_UPDATE_ROWS: Final = 39
TRANSACTION_PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
TAGGED_GTID: Final = 42
ANNOTATE_ROWS: Final = 160
BINLOG_CHECKPOINT: Final = 161
MARIADB_GTID: Final = 162
GTID_LIST: Final = 163
START_ENCRYPTION: Final = 164
QUERY_COMPRESSED: Final = 165
WRITE_ROWS_COMPRESSED_V1: Final = 166
UPDATE_ROWS_COMPRESSED_V1: Final = 167
DELETE_ROWS_COMPRESSED_V1: Final = 168
WRITE_ROWS_COMPRESSED: Final = 169
UPDATE_ROWS_COMPRESSED: Final = 170
DELETE_ROWS_COMPRESSED: Final = 171

#: Whoever doesn't know an event with this flag may leave it out.
IGNORABLE: Final = 0x80
#: Made by the server for this reader; it is not in the file.
ARTIFICIAL: Final = 0x20

_RESYNC: Final = "worker-sync resync PIPELINE"


class Event(NamedTuple):
    """One event. `body` is what follows the header, without checksum; `size` that of all of it, in bytes; `end` the
    position behind it in its file."""

    type: int
    time: int
    server: int
    flags: int
    size: int
    end: int
    body: bytes


def malformed(what: str) -> Halt:
    """The log holds something that can't be read as what it says it is."""
    return Halt(State.UNKNOWN_MESSAGE, f"the binlog holds {what}", "upgrade Worker-Sync, or " + _RESYNC)
