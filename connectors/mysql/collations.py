"""The server's collations: which character set each has, and what reads text in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from connectors.mysql.binlog import table_map as kinds
from connectors.mysql.binlog.charsets import BINARY_COLLATION, UNICODE, Decode, single_byte_decoder, unicode_decoder
from connectors.mysql.binlog.table_map import LoggedColumn
from connectors.mysql.conn import Connection, query
from worker_sync.core.errors import Halt, State

# MariaDB numbers the collations that character sets share in a table of their own.
_SHARED_SQL: Final = """
SELECT a.id, c.character_set_name, c.maxlen FROM information_schema.collation_character_set_applicability a
JOIN information_schema.character_sets c ON c.character_set_name = a.character_set_name WHERE a.id IS NOT NULL
"""
_PLAIN_SQL: Final = """
SELECT o.id, c.character_set_name, c.maxlen FROM information_schema.collations o
JOIN information_schema.character_sets c ON c.character_set_name = o.character_set_name WHERE o.id IS NOT NULL
"""


class Collations:
    """Loaded from the server once; what reads a character set is made when a column first has it."""

    def __init__(self, conn: Connection) -> None:
        has_ids = query(
            conn,
            "SELECT 1 FROM information_schema.columns WHERE table_schema = 'information_schema' AND column_name = 'ID' "
            "AND table_name = 'COLLATION_CHARACTER_SET_APPLICABILITY'",
        )
        rows = query(conn, _SHARED_SQL if has_ids else _PLAIN_SQL)
        self._charsets = {int(number): (charset, int(width)) for number, charset, width in rows}
        self._by_charset: dict[str, Decode | None] = {}
        self.decoders: dict[int, Decode] = {}

    def load(self, conn: Connection, collations: Iterable[int]) -> None:
        """Make `decoders` know those that can be read. Raises pymysql.Error."""
        for number in set(collations) - self.decoders.keys() - {0, BINARY_COLLATION}:
            charset, width = self._charsets.get(number, ("", 0))
            if charset not in self._by_charset:
                self._by_charset[charset] = _decoder(conn, charset, width)
            decoder = self._by_charset[charset]
            if decoder is not None:
                self.decoders[number] = decoder

    def width(self, collation: int) -> int:
        """The most bytes that a character takes."""
        return self._charsets.get(collation, ("", 1))[1] or 1

    def labels(self, column: LoggedColumn) -> tuple[str, ...] | None:
        """The labels of an enum or set; None for other columns. Raises Halt when they can't be read."""
        if column.type not in (kinds.ENUM, kinds.SET):
            return None
        if column.collation == BINARY_COLLATION:
            decode: Decode | None = unicode_decoder("utf-8")
        else:
            decode = self.decoders.get(column.collation)
        if decode is None:
            fix = "ALTER TABLE ... MODIFY the column to CHARACTER SET utf8mb4, then worker-sync resync PIPELINE"
            detail = f"column {column.name} has a character set that can't be read (collation {column.collation})"
            raise Halt(State.TABLE_UNSUPPORTED, detail, fix)
        return tuple(map(decode, column.labels))


def _decoder(conn: Connection, charset: str, width: int) -> Decode | None:
    if charset in UNICODE:
        return unicode_decoder(UNICODE[charset])
    if width != 1 or not charset.isalnum():
        return None
    characters = (f"HEX(CONVERT(CONVERT(x'{code:02x}' USING {charset}) USING utf8mb4))" for code in range(256))
    (row,) = query(conn, f"SELECT {', '.join(characters)}")
    return single_byte_decoder([bytes.fromhex(text).decode() if text else None for text in row])
