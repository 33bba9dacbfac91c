"""The one place that opens connections to PostgreSQL, with the session settings that fix how values look as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow, tuple_row

from connectors.postgres.errors import unreachable
from worker_sync.core.errors import ConfigError
from worker_sync.libpq import PatientConnection

#: Seconds.
CONNECT_TIMEOUT: Final = 10
#: What the network layer needs to notice a server that vanished without a word (a host without power, a firewall that
#: forgot the connection): half a minute instead of the hours that systems wait by default. A server that only takes
#: its time answers for the whole of it. Seconds, the last one milliseconds.
LIVENESS: Final[Mapping[str, str]] = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}

#: The canonical text forms of `worker_sync.core.values` rely on these.
SETTINGS: Final[Mapping[str, str]] = {
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    # Money is text in the forms of this one.
    "lc_monetary": "C",
    # An unquoted NULL in an array is one.
    "array_nulls": "on",
}

#: For connections that read a source. An empty search path makes the server qualify every name that it prints, in
#: the log stream and in queries alike; row_security=off turns a policy that would hide rows into an error.
READ_SETTINGS: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog",
    "row_security": "off",
    # A message that `Source.emit` writes would otherwise be late by wal_writer_delay where this is off.
    "synchronous_commit": "local",
}

_NO_URL: Final = "not a PostgreSQL URL (expected postgresql://user:password@host:port/database)"


def connect(
    url: str, settings: Mapping[str, str] | None = None, *, replication: bool = False
) -> PatientConnection[TupleRow]:
    """An autocommit connection with SETTINGS and then `settings`; for START_REPLICATION with `replication`.

    Raises Unreachable when there is no way in (host, password, database), ConfigError for a bad URL.
    """
    parameters = _parse(url)
    parameters = {"connect_timeout": str(CONNECT_TIMEOUT), **LIVENESS, **parameters}
    parameters["application_name"] = "worker-sync"
    parameters["client_encoding"] = "UTF8"
    parameters["options"] = _options(parameters.get("options", ""), {**SETTINGS, **(settings or {})})
    if replication:
        parameters["replication"] = "database"
    try:
        return PatientConnection.open(make_conninfo("", **parameters), tuple_row)
    except psycopg.Error as error:
        # The driver's traceback would show the password among its arguments.
        raise unreachable(error, redact(url)) from None


def redact(url: str) -> str:
    """The URL without its password and parameters, for messages."""
    parameters = _parse(url)
    user = f"{parameters['user']}@" if "user" in parameters else ""
    port = f":{parameters['port']}" if "port" in parameters else ""
    host = parameters.get("host", parameters.get("hostaddr", ""))
    return f"postgresql://{user}{host}{port}/{parameters.get('dbname', '')}"


def _parse(url: str) -> dict[str, str]:
    try:
        parsed = conninfo_to_dict(url)
    except psycopg.Error:
        # libpq's text quotes the part it doesn't understand, which may be the password.
        raise ConfigError(_NO_URL) from None
    parameters = {name: str(value) for name, value in parsed.items() if value is not None}
    if not all(port.isdigit() for port in parameters.get("port", "0").split(",")):
        raise ConfigError(_NO_URL)
    return parameters


def _options(given: str, settings: Mapping[str, str]) -> str:
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return f"{given} {ours}".strip()
