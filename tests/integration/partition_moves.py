"""A table with partitions, and what happens to them."""

from __future__ import annotations

from typing import Final

import psycopg

TABLE: Final = (
    "CREATE TABLE events (id int, at int, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200)",
    "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id)",
    "CREATE TABLE events_3a PARTITION OF events_3 FOR VALUES FROM (0) TO (1000000)",
    "INSERT INTO events SELECT n, n % 300, 'row ' || n FROM generate_series(1, 600) n",
)
_BESIDE: Final = (
    "CREATE TABLE beside (id int, at int, note text, PRIMARY KEY (id, at))",
    "INSERT INTO beside SELECT n, 300 + n % 100, 'attached' FROM generate_series(1000, 1050) n",
)
_ATTACH: Final = "ALTER TABLE events ATTACH PARTITION beside FOR VALUES FROM (300) TO (400)"

#: What takes rows away, or brings them, without a word in the log.
MOVES: Final = {
    "detached": ("ALTER TABLE events DETACH PARTITION events_1",),
    "dropped": ("DROP TABLE events_1",),
    "dropped with its partitions": ("DROP TABLE events_3",),
    "truncated": ("TRUNCATE events_1",),
    "truncated and filled again": (
        "BEGIN; TRUNCATE events_1; INSERT INTO events VALUES (1, 1, 'again'); COMMIT; ANALYZE events_1",
    ),
    "all truncated, each by itself": ("TRUNCATE events_1, events_2, events_3a",),
    "truncated below": ("TRUNCATE events_3",),
    "attached": (*_BESIDE, _ATTACH),
    "made, filled and attached at once": (f"BEGIN; {'; '.join(_BESIDE)}; {_ATTACH}; COMMIT",),
    "attached with partitions of its own": (
        "CREATE TABLE beside (id int, at int, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (id)",
        "CREATE TABLE beside_1 PARTITION OF beside DEFAULT",
        "INSERT INTO beside VALUES (7, 307, 'attached')",
        _ATTACH,
    ),
    "changed while it was detached": (
        "ALTER TABLE events DETACH PARTITION events_1",
        "DELETE FROM events_1 WHERE id < 50",
        "ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (0) TO (100)",
    ),
}
#: What looks like it, and moves no row.
HARMLESS: Final = {
    "a new partition": (
        "CREATE TABLE events_4 PARTITION OF events FOR VALUES FROM (300) TO (400)",
        "INSERT INTO events VALUES (1, 301, 'new')",
    ),
    "a new partition of a partition": (
        "CREATE TABLE events_3b PARTITION OF events_3 FOR VALUES FROM (1000000) TO (2000000)",
        "INSERT INTO events VALUES (1000001, 250, 'new')",
    ),
    "an empty one attached": (f"BEGIN; CREATE TABLE beside (LIKE events INCLUDING ALL); {_ATTACH}; COMMIT",),
    "rewritten": (
        "DELETE FROM events WHERE id % 2 = 0",
        "VACUUM FULL events_1",
        "CLUSTER events_2 USING events_2_pkey",
    ),
    "emptied row by row": ("DELETE FROM events WHERE at < 100", "VACUUM events_1"),
    "changed in all else": (
        "CREATE INDEX ON events (note)",
        "ANALYZE events",
        "ALTER TABLE events_1 SET (fillfactor = 50)",
        "ALTER TABLE events_1 RENAME TO events_one",
    ),
}


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
