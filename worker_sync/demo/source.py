"""The demo's source database as its application sees it: tables, reference data, transactions of flights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any, Final

import msgspec
import psycopg

from worker_sync.demo.data import DataSet, Flight
from worker_sync.demo.events import Event, What

Connection = psycopg.Connection[tuple[Any, ...]]

#: Tables that are there before the pipelines start, with the columns of the data set's files that they take.
REFERENCE: Final = {
    "airlines": range(2),
    "airports": range(8),
    "planes": range(9),
    "weather": (0, 14, 5, 6, 7, 8, 9, 10, 11, 12, 13),
}

_ANNOUNCE: Final = """
    INSERT INTO flights (scheduled, carrier, flight, origin, destination, tailnum, distance, arrival_due, status)
    SELECT scheduled, carrier, flight, origin, destination, tailnum, distance, arrival_due, 'scheduled'
    FROM json_to_recordset(%s) AS new (scheduled timestamptz, carrier text, flight integer, origin text,
        destination text, tailnum text, distance integer, arrival_due time)
"""
_DEPART: Final = """
    UPDATE flights SET departed = new.departed, departure_delay = new.departure_delay, arrived = new.arrived,
        arrival_delay = new.arrival_delay, air_minutes = new.air_minutes, status = 'departed'
    FROM json_to_recordset(%s) AS new (scheduled timestamptz, carrier text, flight integer, departed timestamptz,
        departure_delay integer, arrived time, arrival_delay integer, air_minutes integer)
    WHERE (flights.scheduled, flights.carrier, flights.flight) = (new.scheduled, new.carrier, new.flight)
"""
_CANCEL: Final = """
    DELETE FROM flights USING json_to_recordset(%s) AS old (scheduled timestamptz, carrier text, flight integer)
    WHERE (flights.scheduled, flights.carrier, flights.flight) = (old.scheduled, old.carrier, old.flight)
"""
_STATEMENTS: Final = {What.ANNOUNCED: _ANNOUNCE, What.DEPARTED: _DEPART, What.CANCELLED: _CANCEL}


#: Fresh tables have no statistics: every change goes by the primary key, never by a scan.
_PLANNER: Final = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True, application_name="worker-sync demo", options=_PLANNER)


def create_tables(connection: Connection) -> None:
    """Create the application's tables, empty."""
    with connection.transaction():
        connection.execute("DROP TABLE IF EXISTS flights, weather, planes, airports, airlines")
        connection.execute(files("worker_sync.demo").joinpath("tables.sql").read_bytes())


def load_reference(connection: Connection, data: DataSet) -> int:
    """Fill the tables that the pipelines find when they start; returns the number of rows."""
    with connection.transaction():
        return sum(_copy(connection, table, columns, data.table(table)) for table, columns in REFERENCE.items())


def _copy(connection: Connection, table: str, columns: Sequence[int], rows: Iterable[list[str | None]]) -> int:
    count = 0
    with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row([row[index] for index in columns])
            count += 1
    return count


def apply_transaction(connection: Connection, events: Sequence[Event]) -> None:
    """Write the events as one transaction; returns once it is committed."""
    with connection.transaction():
        # A flight's outcome may stand in the same transaction as its announcement, never before it.
        for what, group in groupby(sorted(events, key=_order), key=lambda event: event.what):
            rows = msgspec.json.encode([_ROWS[what](event.flight) for event in group])
            connection.execute(_STATEMENTS[what], (rows.decode(),))


def touch_airport(connection: Connection) -> None:
    """Change one row, in a transaction of its own."""
    connection.execute("UPDATE airports SET altitude = altitude + 1 WHERE faa = 'JFK'")


def _order(event: Event) -> int:
    return list(What).index(event.what)


def _key(flight: Flight) -> dict[str, Any]:
    return {"scheduled": flight.scheduled, "carrier": flight.carrier, "flight": flight.number}


def _announcement(flight: Flight) -> dict[str, Any]:
    return {
        **_key(flight),
        "origin": flight.origin,
        "destination": flight.destination,
        "tailnum": flight.tailnum,
        "distance": flight.distance,
        "arrival_due": flight.arrival_due,
    }


def _departure(flight: Flight) -> dict[str, Any]:
    return {
        **_key(flight),
        "departed": flight.departed,
        "departure_delay": flight.departure_delay,
        "arrived": flight.arrived,
        "arrival_delay": flight.arrival_delay,
        "air_minutes": flight.air_minutes,
    }


_ROWS: Final = {What.ANNOUNCED: _announcement, What.DEPARTED: _departure, What.CANCELLED: _key}
