"""The events that begin a transaction and name it, of MySQL (plain, anonymous, tagged) and of MariaDB."""

from __future__ import annotations

import uuid
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from connectors.mysql.binlog.events import Event, malformed
from connectors.mysql.binlog.numbers import variable_length

_MYSQL: Final = Struct("<B16sq").unpack_from
_MARIADB: Final = Struct("<QIB").unpack_from
#: The logical clock of MySQL's event: a type byte and two numbers of eight bytes; the commit times follow.
_TIMES_AT: Final = 42
_HAS_ORIGINAL_TIME: Final = 1 << 55

#: MariaDB: the transaction is one statement, without a commit event.
STANDALONE: Final = 0x01
_PREPARED_XA: Final = 0x40
_COMPLETED_XA: Final = 0x80


class Begin(NamedTuple):
    """A transaction's name, empty for an anonymous one, and commit time in microseconds where the event has it.

    `standalone`: it consists of one statement that commits itself. `two_phase`: it is half of an XA transaction.
    """

    name: str
    committed_at: int | None = None
    standalone: bool = False
    two_phase: bool = False


def mysql_gtid(event: Event) -> Begin:
    """GTID_LOG_EVENT."""
    _, server, number = _MYSQL(event.body)
    return Begin(f"{_server(server)}:{number}", _commit_time(event.body))


@lru_cache(256)
def _server(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))


def anonymous(event: Event) -> Begin:
    """ANONYMOUS_GTID_LOG_EVENT."""
    return Begin("", _commit_time(event.body))


def _commit_time(body: bytes) -> int | None:
    if len(body) < _TIMES_AT + 7:
        return None
    return int.from_bytes(body[_TIMES_AT : _TIMES_AT + 7], "little") & ~_HAS_ORIGINAL_TIME


def tagged(event: Event) -> Begin:
    """GTID_TAGGED_LOG_EVENT (MySQL 8.3): version, size, last field that must be understood, then numbered fields."""
    body = event.body
    version, at = variable_length(body, 0)
    if version != 1:
        raise malformed(f"a GTID event of version {version}")
    size, at = variable_length(body, at)
    _, at = variable_length(body, at)
    server, number, tag, time = b"", 0, "", None
    while at < min(size, len(body)):
        field, at = variable_length(body, at)
        if field == 1:
            parts = []
            for _ in range(16):
                part, at = variable_length(body, at)
                parts.append(part)
            server = bytes(parts)
        elif field == 3:
            length, at = variable_length(body, at)
            tag, at = body[at : at + length].decode("ascii"), at + length
        else:
            value, at = variable_length(body, at)
            if field == 2:
                number = value >> 1  # zigzag of a positive number
            elif field == 6:
                time = value
                break
    if len(server) != 16 or not number:
        raise malformed("a GTID event without a GTID")
    return Begin(":".join(filter(None, (_server(server), tag, str(number)))), time)


def mariadb_gtid(event: Event) -> Begin:
    """MariaDB's GTID_EVENT, which takes the place of BEGIN; the server's id stands in the event's header."""
    number, domain, flags = _MARIADB(event.body)
    return Begin(
        f"{domain}-{event.server}-{number}",
        standalone=bool(flags & STANDALONE),
        two_phase=bool(flags & (_PREPARED_XA | _COMPLETED_XA)),
    )
