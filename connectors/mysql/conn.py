"""The one place that opens connections to MySQL and MariaDB, with the session settings that values rely on.

URL: ``mysql://user:password@host:port/database`` or ``mariadb://...``; both mean either server. Options in the query:
``ssl-mode`` (``disabled``, ``preferred``, ``required``, ``verify-ca``, ``verify-identity``; preferred when missing),
``ssl-ca``, ``ssl-cert``, ``ssl-key`` (paths), ``unix-socket`` (path), ``connect-timeout`` and ``read-timeout`` (whole
seconds).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import CLIENT

from connectors.mysql.errors import translate, unreachable
from worker_sync.core.errors import ConfigError

#: Generic for type checkers only.
Connection: TypeAlias = "pymysql.connections.Connection[Any]"

SCHEMES: Final = ("mysql", "mariadb")
DEFAULT_PORT: Final = 3306
#: Seconds.
CONNECT_TIMEOUT: Final = 10
#: Seconds without a byte from the server in the middle of a statement; a dead peer must not hang a worker.
READ_TIMEOUT: Final = 300

#: Strict, so that nothing is cut or replaced on its way in. Zero dates pass, since a source may hold them; the number
#: 0 is a value in an AUTO_INCREMENT column; quotes are the only thing that a literal has to escape.
SQL_MODE: Final = (
    "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"
)
#: Session variables that fix what values look like and what the server does to them.
SETTINGS: Final[Mapping[str, str]] = {"time_zone": "'+00:00'", "sql_mode": f"'{SQL_MODE}'"}

_NO_URL: Final = "not a MySQL URL (expected mysql://user:password@host:port/database, or mariadb://...)"
_MODES: Final = ("disabled", "preferred", "required", "verify-ca", "verify-identity")
_OPTIONS: Final = frozenset(
    {"ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "unix-socket", "connect-timeout", "read-timeout", "server-id"}
)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. Its password doesn't show in its repr."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    options: Mapping[str, str]


def parse_url(url: str) -> Address:
    """Take a URL apart. Raises ConfigError, which never quotes the URL's secrets."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError(_NO_URL) from None
    if parts.scheme not in SCHEMES or not (parts.hostname or "unix-socket" in options):
        raise ConfigError(_NO_URL)
    address = Address(
        parts.scheme,
        parts.hostname or "localhost",
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path.removeprefix("/")),
        options,
    )
    _check(address)
    return address


def _check(address: Address) -> None:
    where = redact_address(address)
    unknown = sorted(set(address.options) - _OPTIONS)
    if unknown:
        raise ConfigError(f"{where}: unknown option {unknown[0]!r} (known: {', '.join(sorted(_OPTIONS))})")
    mode = address.options.get("ssl-mode", "preferred")
    if mode not in _MODES:
        raise ConfigError(f"{where}: ssl-mode is one of {', '.join(_MODES)}")
    for name in ("connect-timeout", "read-timeout", "server-id"):
        if not address.options.get(name, "1").isdecimal():
            raise ConfigError(f"{where}: {name} is a whole number")


def database_name(url: str) -> str:
    """The database that the URL's path names. Raises ConfigError when there is none."""
    address = parse_url(url)
    if not address.database:
        raise ConfigError(f"{redact(url)} names no database: write it as the path, {address.scheme}://HOST/DATABASE")
    return address.database


def redact(url: str) -> str:
    """The URL without its password and options, for messages."""
    return redact_address(parse_url(url))


def redact_address(address: Address) -> str:
    user = f"{address.user}@" if address.user else ""
    return f"{address.scheme}://{user}{address.host}:{address.port}/{address.database}"


def parameters(address: Address) -> dict[str, Any]:
    """What the driver's connect takes for this address, TLS and timeouts included; also for the log stream."""
    options = address.options
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        # The driver would encode text as Latin-1.
        "password": address.password.encode(),
        "unix_socket": options.get("unix-socket"),
        "charset": "utf8mb4",
        "program_name": "worker-sync",
        "connect_timeout": int(options.get("connect-timeout", CONNECT_TIMEOUT)),
        **_tls(options),
    }


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    mode = options.get("ssl-mode", "preferred")
    if mode == "disabled":
        return {"ssl_disabled": True}
    if mode == "preferred" and not any(name in options for name in ("ssl-ca", "ssl-cert", "ssl-key")):
        return {}  # the driver's own way: encrypted where the server can, unverified
    try:
        context = ssl.create_default_context(cafile=options.get("ssl-ca"))
        context.check_hostname = mode == "verify-identity"
        context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
        # The certificates that the servers make for themselves are not strictly formed.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if "ssl-cert" in options:
            context.load_cert_chain(options["ssl-cert"], options.get("ssl-key"))
    except OSError as error:
        raise ConfigError(f"a certificate file of the MySQL URL can't be read ({type(error).__name__})") from None
    return {"ssl": context}


def connect(url: str, settings: Mapping[str, str] | None = None) -> Connection:
    """An autocommit connection with SETTINGS and then `settings` (names to SQL expressions). Values come as the
    server's text, binary ones as bytes; row counts are of rows found, not of rows changed.

    Raises Unreachable when there is no way in (host, password, database), ConfigError for a bad URL.
    """
    address = parse_url(url)
    timeout = int(address.options.get("read-timeout", READ_TIMEOUT))
    flags = CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS
    try:
        connection: Connection = pymysql.connect(
            **parameters(address),
            database=address.database or None,
            autocommit=True,
            conv={},
            client_flag=flags,
            read_timeout=timeout,
            write_timeout=timeout,
        )
    except (pymysql.Error, OSError, ssl.SSLError) as error:
        # The driver's traceback would show the password among its arguments.
        raise unreachable(error, redact_address(address)) from None
    try:
        _set(connection, {**SETTINGS, **(settings or {})})
    except pymysql.Error as error:
        close(connection)
        raise translate(error, redact_address(address)) from None
    return connection


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    connection.query("SET " + ", ".join(f"SESSION {name} = {value}" for name, value in settings.items()))


def close(connection: Connection) -> None:
    """Close without a word, whatever state the connection is in."""
    try:
        if connection.open:
            connection.close()
    except (pymysql.Error, OSError):
        return


def abandon(connection: Connection) -> None:
    """Close without reading what is left of an unbuffered result, which the driver would do."""
    result = connection._result  # type: ignore[attr-defined]
    if result is not None:
        result.unbuffered_active = False
    connection._result = None  # type: ignore[attr-defined]
    close(connection)


def server_info(connection: Connection) -> str:
    """The server's version as it says it."""
    version: str = connection.get_server_info()  # type: ignore[no-untyped-call]
    return version


def session_of(connection: Connection) -> int:
    """The server's number of the connection's session."""
    number: int = connection.thread_id()  # type: ignore[no-untyped-call]
    return number


def is_mariadb(connection: Connection) -> bool:
    """Whether the server calls itself MariaDB."""
    return "mariadb" in server_info(connection).lower()


def execute(cursor: pymysql.cursors.Cursor, sql: str) -> None:
    """Run statements whose binary literals are `sql.binary`'s. Raises pymysql.Error."""
    # The driver takes bytes as they are, whatever its type hints say; text it would encode without surrogate escapes.
    cursor.execute(sql.encode("utf-8", "surrogateescape"))  # type: ignore[call-overload]


def query(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement and fetch all of its rows. Raises pymysql.Error."""
    with connection.cursor() as cursor:
        execute(cursor, sql)
        return list(cursor.fetchall())
