"""The tokens of SQL statements, as far as telling what a statement does needs them."""

from __future__ import annotations

import re
from typing import Final

#: Enough of a statement to tell what it does; only ALTER and RENAME list something that may come later.
_LONGEST: Final = 1 << 20

_TOKEN: Final = re.compile(
    r"""
      (?P<space>   [\s]+ | \#[^\n]* | --(?=[\s]|$)[^\n]* | /\*(?!M?!).*?\*/ )
    | (?P<hint>    /\*M?!\d* | \*/ )          # what such a comment holds is executed
    | (?P<quoted>  `(?:[^`]|``)*` )
    | (?P<text>    '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" )
    | (?P<word>    [^\s`'"(),;.=*/\#@<>!+-]+ )
    | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Tokens:
    """The words, names and signs of a statement, read from front to back. Comments are left out."""

    def __init__(self, text: str) -> None:
        self._found = [match for match in _TOKEN.finditer(text[:_LONGEST]) if match.lastgroup not in ("space", "hint")]
        self._at = 0

    def peek(self) -> str:
        """The next token, a word in capitals; empty at the end. Names in quotes are no words."""
        if self._at >= len(self._found):
            return ""
        match = self._found[self._at]
        return match.group().upper() if match.lastgroup == "word" else match.group()

    def take(self, *wanted: str) -> bool:
        """Step over the next token if it is one of those (any, when none is given)."""
        if self._at < len(self._found) and (not wanted or self.peek() in wanted):
            self._at += 1
            return True
        return False

    def name(self) -> str:
        """The name that comes next, without quotes."""
        if self._at >= len(self._found):
            return ""
        match = self._found[self._at]
        self._at += 1
        text = match.group()
        if match.lastgroup == "quoted":
            return text[1:-1].replace("``", "`")
        if match.lastgroup == "text":  # with sql_mode ANSI_QUOTES
            return text[1:-1].replace('""', '"')
        return text

    def table(self, database: str) -> tuple[str, str]:
        """The table that comes next; `database` is the session's."""
        name = self.name()
        return (name, self.name()) if self.take(".") else (database, name)
