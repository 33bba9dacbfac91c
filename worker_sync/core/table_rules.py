"""What the configuration says of a pipeline's tables: which, under which name, which columns and rows, how masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from worker_sync.core.blocks import Block, Int
from worker_sync.core.declared_types import parse_type
from worker_sync.core.filter_syntax import Condition, parse_filter
from worker_sync.core.schema import Type
from worker_sync.core.settings_file import Problem

PATTERN_CHARACTERS: Final = frozenset("*?[")
#: A shorter secret could be guessed, and with it every value of few possibilities.
MIN_SECRET_BYTES: Final = 16

ColumnName = Annotated[str, StringConstraints(min_length=1)]
ColumnNames = Annotated[tuple[ColumnName, ...], Field(min_length=1)]


def _null_as_word(value: Any) -> Any:
    """YAML reads a bare `null` as no value; here it is a word like the others."""
    return "null" if value is None else value


def _checked(check: Callable[[str], object]) -> AfterValidator:
    def validate(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise PydanticCustomError("text", str(error).replace("{", "{{").replace("}", "}}")) from None
        return text

    return AfterValidator(validate)


class Mask(Block):
    """How a column's values are masked before they leave the capture. `hash`: the hexadecimal HMAC-SHA-256 with
    `secret`, equal for equal values; `partial`: all characters but the `first` and `last` so many as asterisks;
    `redact`: `text` in place of every value; `null`: NULL. NULL itself stays NULL."""

    method: Annotated[Literal["hash", "partial", "redact", "null"], BeforeValidator(_null_as_word)]
    secret: SecretStr | None = None
    first: Annotated[Int, Field(ge=0)] | None = None
    last: Annotated[Int, Field(ge=0)] | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _fits_its_method(self) -> Mask:
        allowed = {"hash": {"secret"}, "partial": {"first", "last"}, "redact": {"text"}, "null": set[str]()}
        given = {name for name in ("secret", "first", "last", "text") if getattr(self, name) is not None}
        strange = sorted(given - allowed[self.method])
        if strange:
            raise PydanticCustomError("mask", f"{' and '.join(strange)} can't be given with method: {self.method}")
        if self.method == "hash":
            self._check_secret()
        if self.method == "partial" and not (self.first or self.last):
            raise PydanticCustomError("mask", "partial needs first or last, the number of characters that stay")
        if self.method == "redact" and self.text is None:
            raise PydanticCustomError("mask", "redact needs text, which stands for every value")
        return self

    def _check_secret(self) -> None:
        if self.secret is None:
            raise PydanticCustomError("mask", "hash needs a secret; write secret: an environment variable or a file")
        if len(self.secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise PydanticCustomError("mask", f"the secret is too short; use at least {MIN_SECRET_BYTES} bytes")


class Columns(Block):
    """Which columns of a table travel (all, only those included and the key, or all but those excluded), under which
    name, and which of them masked. Columns go by the names that they have in the source."""

    include: ColumnNames | None = None
    exclude: ColumnNames | None = None
    rename: dict[ColumnName, ColumnName] = Field(default_factory=dict)
    mask: dict[ColumnName, Mask] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Columns:
        if self.include and self.exclude:
            raise PydanticCustomError("columns", "include and exclude can't stand together; keep one")
        if not (self.include or self.exclude or self.rename or self.mask):
            raise PydanticCustomError("columns", "is empty; give include, exclude, rename or mask")
        return self


def _path(text: str) -> None:
    if not all(text.split(".")):
        raise ValueError("not a path; write the names of nested fields with dots between, like order.total")


class DocumentField(Block):
    """A column made of a field of a collection's documents: the field at `path` (names with dots between; without it
    the column's own name), of `type`. A document without the field is refused, or gives NULL with `missing: null`."""

    path: Annotated[str, _checked(_path)] | None = None
    type: Annotated[str, _checked(parse_type)]
    missing: Annotated[Literal["refuse", "null"], BeforeValidator(_null_as_word)] = "refuse"

    @property
    def declared(self) -> Type:
        return parse_type(self.type)


def _table_name(text: str) -> None:
    if not all(text.split(".", 1)) or any(character.isspace() for character in text):
        raise ValueError("not a table name; write namespace.name, or a pattern like public.*")


class TableRule(Block):
    """Tables by `namespace.name`, where `*`, `?` and `[...]` match within each part, or by `name` in any namespace.
    `to` renames one table; `where` is a condition in SQL's form that its rows must meet; `fields` makes columns of a
    collection's documents, and `rest` is the column that keeps what they leave."""

    name: Annotated[str, _checked(_table_name)]
    to: Annotated[str, StringConstraints(pattern=r"^\S+$")] | None = None
    columns: Columns | None = None
    where: Annotated[str, _checked(parse_filter)] | None = None
    fields: dict[ColumnName, DocumentField] = Field(default_factory=dict)
    rest: ColumnName | None = None

    @property
    def is_pattern(self) -> bool:
        return not PATTERN_CHARACTERS.isdisjoint(self.name)

    @cached_property
    def condition(self) -> Condition | None:
        """What `where` says."""
        return None if self.where is None else parse_filter(self.where)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_table(self) -> TableRule:
        for key in ("to", "fields"):
            if self.is_pattern and getattr(self, key):
                raise PydanticCustomError("rule", f"`{key}` needs a plain table name, not a pattern")
        if self.rest is not None and not self.fields:
            raise PydanticCustomError("rule", "`rest` keeps what `fields` leave; declare fields too")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


def contradictions(at: str, rule: TableRule) -> Iterator[Problem]:
    """What of a rule at a path contradicts itself."""
    if rule.rest in rule.fields:
        yield Problem(f"{at}.rest", f"{rule.rest!r} is one of the fields too; use another name")
    columns = rule.columns
    if columns is None:
        return
    for kind in ("rename", "mask"):
        for name in getattr(columns, kind):
            if name in (columns.exclude or ()):
                yield Problem(f"{at}.columns.{kind}.{name}", "is excluded; remove one of the two")
    seen: dict[str, str] = {}
    for old, new in columns.rename.items():
        if seen.setdefault(new, old) != old:
            yield Problem(f"{at}.columns.rename.{old}", f"{new!r} is the name of {seen[new]!r} too; use another one")
