"""The load: one table of six columns, filled by procedures that run inside the source, so that no client is timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

#: Seconds after which a run that does not arrive is given up.
PATIENCE_S: Final = 300.0
#: Seconds between two looks at the target. Times are read from commit timestamps, so looking often gains nothing.
LOOK_S: Final = 0.02

COLUMNS: Final = "id, account, amount, note, settled, booked_at"

_TABLE: Final = """
CREATE TABLE {table} (
    id bigint PRIMARY KEY, account integer NOT NULL, amount numeric(12, 2) NOT NULL,
    note text NOT NULL, settled boolean NOT NULL, booked_at timestamptz NOT NULL
)
"""
# The source's commit time is copied into the target's transactions by native replication, so it does not say when
# they were committed there. This column says when a row was written.
_ARRIVED_AT: Final = "ALTER TABLE {table} ADD COLUMN arrived_at timestamptz NOT NULL DEFAULT clock_timestamp()"

_ROW: Final = (
    "{n}, ({n} % 1000)::int, ({n} % 1000000) / 100.0, 'payment ' || {n} || ' of account ' || {n} % 1000, "
    "{n} % 2 = 0, timestamptz '2025-01-01 00:00:00+00' + {n} * interval '1 second'"
)

_BULK: Final = f"""
CREATE PROCEDURE {{bulk}}(first bigint, count bigint, size bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR start IN first .. first + count - 1 BY size LOOP
        INSERT INTO {{table}} SELECT {_ROW.format(n="n")}
        FROM generate_series(start, least(start + size, first + count) - 1) AS n;
        COMMIT;
    END LOOP;
END $$
"""

# An open model: transactions are due at fixed times whatever came of those before; a late one goes out at once.
_PACED: Final = f"""
CREATE PROCEDURE {{paced}}(first bigint, step bigint, count bigint, every double precision) LANGUAGE plpgsql AS $$
DECLARE
    started CONSTANT timestamptz := clock_timestamp();
    pause double precision;
BEGIN
    FOR number IN 0 .. count - 1 LOOP
        pause := number * every - extract(epoch FROM clock_timestamp() - started);
        IF pause > 0 THEN
            PERFORM pg_sleep(pause);
        END IF;
        INSERT INTO {{table}} SELECT {_ROW.format(n="(first + number * step)")};
        COMMIT;
    END LOOP;
END $$
"""


class LoadFailed(Exception):
    """What was sent did not arrive, or arrived as something else"""


def _names(table: str) -> dict[str, sql.Identifier]:
    return {
        name: sql.Identifier("public", text)
        for name, text in zip(("table", "bulk", "paced"), _words(table), strict=True)
    }


def _words(table: str) -> tuple[str, str, str]:
    return table, f"{table}_bulk", f"{table}_paced"


def _execute(url: str, table: str, statement: LiteralString, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement).format(**_names(table)), values or None)
        return cursor.fetchall() if cursor.description else []


def create(source: str, target: str, table: str) -> None:
    """A fresh, empty table on both servers, with the procedures that fill it on the source."""
    create_source(source, table)
    _execute(target, table, _TABLE)
    _execute(target, table, _ARRIVED_AT)


def create_source(source: str, table: str) -> None:
    """The source's half of `create`."""
    for statement in (_TABLE, _BULK, _PACED):
        _execute(source, table, statement)


def drop(source: str, target: str, table: str) -> None:
    """Remove the table again, so that the next one meets the same servers."""
    for url in (source, target):
        _execute(url, table, "DROP TABLE {table}")
    _execute(source, table, "DROP PROCEDURE {bulk}, {paced}")


def bulk(source: str, table: str, rows: int, size: int) -> float:
    """Insert `rows` rows in transactions of `size`; returns the seconds that the source took."""
    started = time.monotonic()
    _execute(source, table, "CALL {bulk}(1, %s, %s)", (rows, size))
    return time.monotonic() - started


def paced(source: str, table: str, rate: float, seconds: float, connections: int) -> float:
    """Insert single-row transactions at `rate` a second, spread over connections; returns the rate reached."""
    count = max(1, int(rate * seconds / connections))
    every = connections / rate

    def run(first: int) -> None:
        _execute(source, table, "CALL {paced}(%s, %s, %s, %s)", (first, connections, count, every))

    threads = [threading.Thread(target=run, args=(first,)) for first in range(1, connections + 1)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return connections * count / (time.monotonic() - started)


def arrival(target: str, table: str, rows: int) -> None:
    """Return once the target holds `rows` rows. Raises LoadFailed when it does not within `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    with psycopg.connect(target, autocommit=True) as connection:
        highest = sql.SQL("SELECT max(id) FROM {table}").format(**_names(table))
        counted = sql.SQL("SELECT count(*) FROM {table}").format(**_names(table))
        for statement in (highest, counted):
            while (connection.execute(statement).fetchone() or (0,))[0] != rows:
                if time.monotonic() > deadline:
                    raise LoadFailed(f"{table}: {rows} rows did not arrive within {PATIENCE_S:.0f} s")
                time.sleep(LOOK_S)


def compare(source: str, target: str, table: str) -> int:
    """The number of rows, which both sides hold alike. Raises LoadFailed when they differ."""
    query: LiteralString = f"SELECT count(*), coalesce(sum(hashtextextended(({COLUMNS})::text, 0)), 0) FROM {{table}}"
    sent, arrived = (_execute(url, table, query)[0] for url in (source, target))
    if sent != arrived:
        raise LoadFailed(f"{table}: the source holds {sent[0]} rows, the target {arrived[0]}, or their contents differ")
    return int(arrived[0])


_COMMITTED: Final = "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 FROM {table}"
# The later of two: the commit of our transactions; of native replication's the writing of the row, a moment before.
_AT: Final = "extract(epoch FROM greatest(arrived_at, pg_xact_commit_timestamp(xmin)))::float8"
_ARRIVED: Final = f"SELECT id, {_AT} * 1000 FROM {{table}}"
_SPAN: Final = f"SELECT min({_AT}), max({_AT}) FROM {{table}}"


def span(target: str, table: str) -> tuple[float, float]:
    """When the first and the last row arrived, seconds since 1970."""
    first, last = _execute(target, table, _SPAN)[0]
    return first, last


def lags(source: str, target: str, table: str) -> list[float]:
    """Milliseconds from each row's commit in the source to its arrival in the target, ascending."""
    committed = dict(_execute(source, table, _COMMITTED))
    return sorted(at - committed[number] for number, at in _execute(target, table, _ARRIVED))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the ordered values don't exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
