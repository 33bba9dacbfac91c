"""QUERY events: statements in the log, and what they mean for captured tables.

Layout: session id (4), seconds (4), length of the database (1), error (2), length of the variables (2), the variables,
the database and a zero byte, then the statement; MariaDB may have compressed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from struct import Struct
from typing import Final

from connectors.mysql.binlog.compression import unpack_mariadb
from connectors.mysql.binlog.events import QUERY_COMPRESSED, Event, malformed
from connectors.mysql.binlog.tokens import Tokens

_HEADER: Final = Struct("<IIBHH")


class Effect(Enum):
    """What a statement does, as far as a reader of row events must know."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    #: Savepoints and statements that concern neither rows nor definitions of tables.
    NOTHING = "nothing"
    #: A definition changed.
    DEFINITION = "definition"
    TRUNCATE = "truncate"
    #: The tables are gone, or have another name or other rows than before.
    LOST = "lost"
    #: Every table of the database is gone.
    DATABASE_LOST = "database lost"
    #: Rows changed that no row event describes.
    UNDESCRIBED = "undescribed"
    XA_BEGIN = "xa begin"
    XA_END = "xa end"
    XA_PHASE_TWO = "xa phase two"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement's effect, on these tables (database and name), or on the database whose name stands alone."""

    effect: Effect
    tables: tuple[tuple[str, str], ...] = field(default=())


def parse_query(event: Event) -> tuple[str, bytes]:
    """The session's database and the statement's text, in whatever character set the session had."""
    body = event.body
    _, _, database_size, _, variables_size = _HEADER.unpack_from(body)
    start = _HEADER.size + variables_size
    end = start + database_size
    text = body[end + 1 :]
    if len(body) <= end:
        raise malformed("a statement that is cut off")
    return body[start:end].decode("utf-8", "replace"), unpack_mariadb(text) if event.type == QUERY_COMPRESSED else text


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS: Final = _words(
    "SAVEPOINT RELEASE SET GRANT REVOKE FLUSH ANALYZE OPTIMIZE REPAIR CHECK CHECKSUM USE LOCK UNLOCK INSTALL "
    "UNINSTALL BINLOG RESET KILL SHUTDOWN CACHE PURGE CHANGE START STOP HELP SHOW DO SIGNAL RESIGNAL RESTART "
    "CLONE"
)
_WRITES_ROWS: Final = _words("INSERT UPDATE DELETE REPLACE LOAD CALL WITH SELECT TABLE VALUES EXECUTE")
#: Words of ALTER TABLE, followed by one of those, that change which rows are there.
_MOVES_ROWS: Final = {
    "EXCHANGE": ("PARTITION",),
    "TRUNCATE": ("PARTITION",),
    "DROP": ("PARTITION",),
    "DISCARD": ("PARTITION", "TABLESPACE"),
    "IMPORT": ("PARTITION", "TABLESPACE"),
    "CONVERT": ("PARTITION", "TABLE"),
}
_OTHER_OBJECTS: Final = _words(
    "VIEW FUNCTION PROCEDURE TRIGGER EVENT USER ROLE INDEX SERVER LOGFILE TABLESPACE UNDO SEQUENCE PACKAGE "
    "RESOURCE INSTANCE AGGREGATE SPATIAL UNIQUE FULLTEXT LIBRARY AUTHENTICATION MATERIALIZED JSON"
)
_SIMPLE: Final = {
    b"BEGIN": Effect.BEGIN,
    b"COMMIT": Effect.COMMIT,
    b"ROLLBACK": Effect.ROLLBACK,
    b"START TRANSACTION": Effect.BEGIN,
}


def read_statement(database: str, text: bytes) -> Statement:
    """What the statement means. Never guesses: what it doesn't know is UNKNOWN."""
    simple = _SIMPLE.get(text)
    if simple is not None:
        return Statement(simple)
    # Keywords and punctuation are the same bytes in every character set that a session can have.
    tokens = Tokens(_decoded(text))
    verb = tokens.peek()
    tokens.take()
    if verb in _HARMLESS:
        return Statement(Effect.NOTHING)
    if verb in _WRITES_ROWS:
        return _write(verb, tokens)
    reader = _READERS.get(verb)
    return Statement(Effect.UNKNOWN) if reader is None else reader(tokens, database)


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _write(verb: str, tokens: Tokens) -> Statement:
    """Rows changed by statement. Hosting services keep notes in the server's own tables that way."""
    while tokens.take("INTO", "FROM", "IGNORE", "LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK"):
        pass
    schema, _ = tokens.table("")
    return Statement(Effect.NOTHING if verb != "CALL" and schema == "mysql" else Effect.UNDESCRIBED)


def _rollback(tokens: Tokens, _: str) -> Statement:
    # With a name it goes back to a savepoint: what it took back is not in the log.
    while tokens.take("WORK"):
        pass
    return Statement(Effect.NOTHING if tokens.peek() == "TO" else Effect.ROLLBACK)


def _begin(_: Tokens, __: str) -> Statement:
    return Statement(Effect.BEGIN)


def _commit(_: Tokens, __: str) -> Statement:
    return Statement(Effect.COMMIT)


def _xa(tokens: Tokens, _: str) -> Statement:
    verb = tokens.peek()
    if verb in ("START", "BEGIN"):
        return Statement(Effect.XA_BEGIN)
    if verb == "END":
        return Statement(Effect.XA_END)
    return Statement(Effect.XA_PHASE_TWO if verb in ("COMMIT", "ROLLBACK") else Effect.UNKNOWN)


def _truncate(tokens: Tokens, database: str) -> Statement:
    tokens.take("TABLE")
    return Statement(Effect.TRUNCATE, (tokens.table(database),))


def _skip_condition(tokens: Tokens) -> None:
    if tokens.take("IF"):
        tokens.take("NOT")
        tokens.take("EXISTS")


def _drop(tokens: Tokens, database: str) -> Statement:
    if tokens.take("TEMPORARY") or tokens.peek() in _OTHER_OBJECTS or tokens.peek() == "PREPARE":
        return Statement(Effect.NOTHING)
    if tokens.take("DATABASE", "SCHEMA"):
        _skip_condition(tokens)
        return Statement(Effect.DATABASE_LOST, ((tokens.name(), ""),))
    if not tokens.take("TABLE", "TABLES"):
        return Statement(Effect.UNKNOWN)
    _skip_condition(tokens)
    return Statement(Effect.LOST, _table_list(tokens, database))


def _table_list(tokens: Tokens, database: str) -> tuple[tuple[str, str], ...]:
    tables = [tokens.table(database)]
    while tokens.take(","):
        tables.append(tokens.table(database))
    return tuple(tables)


def _rename(tokens: Tokens, database: str) -> Statement:
    if tokens.take("USER"):
        return Statement(Effect.NOTHING)
    if not tokens.take("TABLE", "TABLES"):
        return Statement(Effect.UNKNOWN)
    _skip_condition(tokens)
    tables = []
    while True:
        tables.append(tokens.table(database))
        while tokens.peek() not in ("TO", ""):  # WAIT n, NOWAIT
            tokens.take()
        tokens.take("TO")
        tables.append(tokens.table(database))
        if not tokens.take(","):
            return Statement(Effect.LOST, tuple(tables))


def _alter(tokens: Tokens, database: str) -> Statement:
    while tokens.take("ONLINE", "OFFLINE", "IGNORE"):
        pass
    if not tokens.take("TABLE"):
        known = tokens.peek() in _OTHER_OBJECTS | {"DATABASE", "SCHEMA", "DEFINER", "ALGORITHM", "SQL"}
        return Statement(Effect.NOTHING if known else Effect.UNKNOWN)
    _skip_condition(tokens)
    table = tokens.table(database)
    depth = 0
    while word := tokens.peek():
        tokens.take()
        depth += (word == "(") - (word == ")")
        if depth == 0 and tokens.peek() in _MOVES_ROWS.get(word, ()):
            return Statement(Effect.LOST, (table,))
        if depth == 0 and word == "RENAME" and tokens.peek() not in ("COLUMN", "INDEX", "KEY"):
            tokens.take("TO", "AS", "=")
            return Statement(Effect.LOST, (table, tokens.table(database)))
    return Statement(Effect.DEFINITION)


def _create(tokens: Tokens, database: str) -> Statement:
    replaces = False
    if tokens.take("OR"):
        replaces = tokens.take("REPLACE")
    if tokens.take("TEMPORARY") or not tokens.take("TABLE"):
        known = tokens.peek() in _OTHER_OBJECTS | {"DATABASE", "SCHEMA", "DEFINER", "ALGORITHM", "SQL", "TABLE"}
        return Statement(Effect.NOTHING if known else Effect.UNKNOWN)
    _skip_condition(tokens)
    return Statement(Effect.LOST if replaces else Effect.DEFINITION, (tokens.table(database),))


_READERS: Final = {
    "BEGIN": _begin,
    "COMMIT": _commit,
    "ROLLBACK": _rollback,
    "XA": _xa,
    "TRUNCATE": _truncate,
    "DROP": _drop,
    "RENAME": _rename,
    "ALTER": _alter,
    "CREATE": _create,
}
