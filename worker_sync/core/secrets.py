"""Secrets in the configuration: where they come from, and the types that don't show them.

In any text of the configuration `${NAME}` and `${NAME:-default}` stand for an environment variable and
`${file:/path}` for a file's content; a whole value may also be written `file:/path`. `$${` is a plain `${`. A file's
trailing line breaks don't belong to the secret; relative paths start at the configuration file's folder.

What is put into the user-info part of a URL is percent-encoded on the way, so that a password may hold any character:
`postgresql://ws:${file:/run/secrets/password}@db/shop`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

HIDDEN: Final = "***"

_PLACEHOLDER: Final = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
#: The password of a URL; greedy up to the last @ before the path, because people forget to encode one.
_USERINFO: Final = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#@]*):(?P<password>[^\s/?#]*)@")
_QUERY: Final = re.compile(r"(?P<head>[?&](?:ssl)?password=)(?P<password>[^\s&#]+)", re.IGNORECASE)
_BEFORE_USERINFO: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^@/]*")
_AFTER_USERINFO: Final = re.compile(r"[^@/]*@")


def redact(text: str) -> str:
    """`text` with the password of every URL in it hidden."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<head>{HIDDEN}", _USERINFO.sub(rf"\g<head>:{HIDDEN}@", text))


class Url:
    """A URL whose password doesn't show in repr, str and errors; `reveal()` is the whole text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The URL with its password, for the driver only."""
        return self._text

    @property
    def scheme(self) -> str:
        return self._text.partition("://")[0].lower()

    def secrets(self) -> set[str]:
        """The passwords in it, as written and decoded."""
        found = {match["password"] for pattern in (_USERINFO, _QUERY) for match in pattern.finditer(self._text)}
        return {form for password in found for form in (password, unquote(password)) if form}

    def __str__(self) -> str:
        return redact(self._text)

    def __repr__(self) -> str:
        return f"Url({redact(self._text)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def _validate(cls, value: Any) -> Url:
        if isinstance(value, Url):
            return value
        if not isinstance(value, str) or not _URL.fullmatch(value):
            raise PydanticCustomError("url", "not a URL; write scheme://user:password@host:port/name")
        if not _has_usable_host(value):
            raise PydanticCustomError(
                "url", "not a usable URL: check host and port; percent-encode special characters of the password"
            )
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "uri"}


def _has_usable_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Several hosts (PostgreSQL, MongoDB) are the driver's business.
        return "," in parts.netloc or parts.port is None or parts.port > 0
    except ValueError:
        return False


class MissingSecret(ValueError):
    """A placeholder that has no value; the text says what to do."""


def resolve(text: str, folder: Path) -> str:
    """`text` with its placeholders replaced. Raises MissingSecret."""
    if text.startswith("file:"):
        return _read(text.removeprefix("file:"), folder)

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        value = _lookup(match[1], folder)
        return quote(value, safe="") if _in_userinfo(text, match) else value

    return _PLACEHOLDER.sub(replacement, text)


def _in_userinfo(text: str, match: re.Match[str]) -> bool:
    before = _PLACEHOLDER.sub("", text[: match.start()])
    after = _PLACEHOLDER.sub("", text[match.end() :])
    return bool(_BEFORE_USERINFO.fullmatch(before) and _AFTER_USERINFO.match(after))


def _lookup(inner: str, folder: Path) -> str:
    if inner.startswith("file:"):
        return _read(inner.removeprefix("file:"), folder)
    name, has_default, default = inner.partition(":-")
    if not _NAME.fullmatch(name):
        raise MissingSecret(f"${{{inner}}} is not ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}")
    value = os.environ.get(name)
    if has_default:
        return value or default
    if value is None:
        raise MissingSecret(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def _read(path: str, folder: Path) -> str:
    try:
        return (folder / path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise MissingSecret(f"the secret file {path} can't be read: {reason}") from None
