"""The language of row filters: a part of SQL's conditions, read into a tree.

::

    condition   = conjunction { OR conjunction }
    conjunction = negation { AND negation }
    negation    = NOT negation | "(" condition ")" | test
    test        = column ( = | != | <> | < | <= | > | >= ) literal
                | column [ NOT ] IN "(" literal { "," literal } ")"
                | column [ NOT ] LIKE text
                | column IS [ NOT ] NULL
    literal     = text | number | TRUE | FALSE

A column is a plain name or stands in double quotes, a text in single quotes; a quote inside is doubled. Nothing else
is known: no functions, no arithmetic, no other columns on the right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

Literal: TypeAlias = str | Decimal | bool

#: Nested deeper than this is no filter that a person wrote.
MAX_DEPTH: Final = 50


@dataclass(frozen=True, slots=True)
class Check:
    """A column and what is asked of it: a comparison, ``in``, ``like`` or ``null``."""

    column: str
    op: str
    values: tuple[Literal, ...] = ()


@dataclass(frozen=True, slots=True)
class Negation:
    part: Condition


@dataclass(frozen=True, slots=True)
class Conjunction:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    parts: tuple[Condition, ...]


Condition: TypeAlias = Check | Negation | Conjunction | Disjunction


def columns_of(condition: Condition) -> Iterator[str]:
    """The columns that a condition looks at, some perhaps twice."""
    match condition:
        case Check():
            yield condition.column
        case Negation():
            yield from columns_of(condition.part)
        case Conjunction() | Disjunction():
            for part in condition.parts:
                yield from columns_of(part)


def parse_filter(text: str) -> Condition:
    """The condition that `text` says. Raises ValueError with what is wrong and where; the text itself isn't shown."""
    return _Parser(text).whole()


_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w.]))
      | (?P<word>[^\W\d][\w$]*)
      | (?P<mark><=|>=|<>|!=|[=<>(),])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Final = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "is", "null", "like", "true", "false"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """The keyword, mark or nothing that this token is."""
        word = self.text.lower()
        return word if self.kind == "mark" or (self.kind == "word" and word in _KEYWORDS) else ""


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._condition()
        if self._token.kind != "end":
            raise self._expected("AND, OR or the end")
        return condition

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _accept(self, keyword: str) -> bool:
        found = self._token.keyword == keyword
        self._next += found
        return found

    def _require(self, keyword: str) -> None:
        if not self._accept(keyword):
            raise self._expected(keyword.upper())

    def _expected(self, what: str) -> ValueError:
        end = self._token.kind == "end"
        return ValueError(f"expected {what} at {'the end' if end else f'character {self._token.at + 1}'}")

    def _condition(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        parts = [self._conjunction()]
        while self._accept("or"):
            parts.append(self._conjunction())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Disjunction(tuple(parts))

    def _conjunction(self) -> Condition:
        parts = [self._negation()]
        while self._accept("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else Conjunction(tuple(parts))

    def _negation(self) -> Condition:
        inverted = False
        while self._accept("not"):
            inverted = not inverted
        if self._accept("("):
            part = self._condition()
            self._require(")")
        else:
            part = self._test()
        return Negation(part) if inverted else part

    def _test(self) -> Condition:
        column = self._column()
        if self._accept("is"):
            inverted = self._accept("not")
            self._require("null")
            return _perhaps_not(Check(column, "null"), inverted)
        inverted = self._accept("not")
        if self._accept("in"):
            return _perhaps_not(Check(column, "in", self._list()), inverted)
        if self._accept("like"):
            return _perhaps_not(Check(column, "like", (self._pattern(),)), inverted)
        comparison = _COMPARISONS.get(self._token.keyword)
        if inverted or comparison is None:
            raise self._expected("IN or LIKE" if inverted else "a comparison, IN, LIKE or IS")
        self._take()
        return Check(column, comparison, (self._literal(),))

    def _column(self) -> str:
        if self._token.kind == "quoted":
            return self._take().text[1:-1].replace('""', '"')
        if self._token.kind != "word" or self._token.keyword:
            raise self._expected("a column")
        return self._take().text

    def _list(self) -> tuple[Literal, ...]:
        self._require("(")
        values = [self._literal()]
        while self._accept(","):
            values.append(self._literal())
        self._require(")")
        return tuple(values)

    def _pattern(self) -> str:
        if self._token.kind != "text":
            raise self._expected("a text in single quotes")
        return str(self._literal())

    def _literal(self) -> Literal:
        if self._token.kind == "text":
            return self._take().text[1:-1].replace("''", "'")
        if self._token.kind == "number":
            return Decimal(self._take().text)
        if self._token.keyword in ("true", "false"):
            return self._take().keyword == "true"
        if self._token.keyword == "null":
            raise ValueError("nothing compares with NULL; write IS NULL or IS NOT NULL")
        raise self._expected("a text in single quotes, a number, TRUE or FALSE")


def _perhaps_not(test: Check, inverted: bool) -> Condition:
    return Negation(test) if inverted else test


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise ValueError(f"character {start + 1} begins nothing that a filter may hold")
        assert match.lastgroup is not None
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        at = match.end()
    yield _Token("end", "", end)
