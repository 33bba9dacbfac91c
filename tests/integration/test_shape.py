"""What travels of a table, between real databases: filtered rows, masked values, chosen and renamed columns."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.traffic import Traffic
from tests.integration.capture_rig import Rig, has_table, rig, rows_of, settings_for
from worker_sync.composition.workspace import Workspace
from worker_sync.core.codec import encode
from worker_sync.core.errors import State
from worker_sync.core.settings import Settings, parse
from worker_sync.core.settings_file import SettingsError
from worker_sync.store.signals import SignalKind
from worker_sync.verification import Comparison, DifferenceKind, Result

SECRET = "a secret of thirty-two bytes 0123"
CARD = "4111-2222-3333-"
NAME = "Clearname"
NOTE = "Clearnote"

TABLE = """
CREATE TABLE people (id bigint PRIMARY KEY, region text, score numeric(10, 2), name text NOT NULL, card text,
    email text, note text, body text, internal text);
ALTER TABLE people ALTER body SET STORAGE EXTERNAL;
"""
FULL = "ALTER TABLE people REPLICA IDENTITY FULL"
WHERE = "region = 'eu' AND (score >= 10 OR score IS NULL)"
RULE = {
    "name": "people",
    "to": "persons",
    "where": WHERE,
    "columns": {
        "exclude": ["internal"],
        "rename": {"id": "person", "email": "mail"},
        "mask": {
            "name": {"method": "redact", "text": "***"},
            "card": {"method": "partial", "last": 4},
            "email": {"method": "hash", "secret": SECRET},
            "note": {"method": None},
        },
    },
}


@pytest.fixture
def control_db(postgres: str) -> Iterator[str]:
    with new_database(postgres, "control") as url:
        yield url


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def fill(url: str, rows: int) -> None:
    execute(
        url,
        f"""INSERT INTO people SELECT n, (ARRAY['eu', 'us', NULL])[1 + n % 3], CASE WHEN n % 5 > 0 THEN n % 20 END,
        '{NAME} ' || n, '{CARD}' || (1000 + n % 9000), 'p' || n % 50 || '@clear.example', '{NOTE}',
        repeat('b', 3000) || n, 'Clearinternal' FROM generate_series(1, {rows}) n""",
    )


def hashed(value: str | None) -> str | None:
    return None if value is None else hmac.digest(SECRET.encode(), value.encode(), "sha256").hex()


def expected(source: str) -> list[tuple[Any, ...]]:
    """What the target must hold, worked out by the source's own database and the standard library."""
    rows = rows_of(source, f"SELECT id, region, score, card, email, body FROM people WHERE {WHERE} ORDER BY id")
    return [
        (id_, region, score, "***", None if card is None else "*" * (len(card) - 4) + card[-4:], hashed(email), None, b)
        for id_, region, score, card, email, b in rows
    ]


def arrived(target: str) -> list[tuple[Any, ...]]:
    query = "SELECT person, region, score, name, card, mail, note, body FROM persons ORDER BY person"
    return rows_of(target, query) if has_table(target, "persons") else []


def compare(settings: Settings, control: str) -> Result:
    """The comparison that `worker-sync verify` makes."""
    whole = settings.model_copy(update={"control": control})
    with Workspace(whole) as space:
        pipeline = space.settings.pipeline("p")
        with space.source_reader(pipeline) as source, space.sink("target").reader() as target:
            return Comparison(source, target, lambda: None, chunk_rows=50).run("p", space.pairs(pipeline))


INSERT = """
INSERT INTO people VALUES (%s, %s, %s, %s, %s, %s, %s, repeat('y', 3000) || %s::text) ON CONFLICT DO NOTHING
"""
MOVE = "UPDATE people SET id = %s, region = %s WHERE id = %s AND NOT EXISTS (SELECT FROM people WHERE id = %s)"


class Crossing(Traffic):
    """Random changes that move rows into and out of the filter, some of them without touching the large column."""

    def work(self) -> None:
        with psycopg.connect(self.url) as connection:
            while not self.stopping.is_set():
                with connection.transaction():
                    for _ in range(self.random.choice((1, 1, 5, 40))):
                        connection.execute(*self._change())
                self.transactions += 1

    def _change(self) -> tuple[str, tuple[Any, ...]]:
        pick, key, other = self.random.random(), self.random.randrange(800), self.random.randrange(800)
        region, score = self.random.choice(("eu", "eu", "us", None)), self.random.choice((5, 10, 99.5, None))
        if pick < 0.5:
            return "UPDATE people SET region = %s, score = %s WHERE id = %s", (region, score, key)
        if pick < 0.6:
            return "UPDATE people SET body = repeat('x', 3000) || %s::text WHERE id = %s", (other, key)
        if pick < 0.8:
            clear = f"{NAME} {key}", f"{CARD}{1000 + other}", f"p{other}@clear.example", f"{NOTE} {other}"
            return INSERT, (key, region, score, *clear, str(other))
        if pick < 0.9:
            return MOVE, (other, region, key, other)
        return "DELETE FROM people WHERE id = %s", (key,)


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_that_cross_the_filter_are_at_the_target_exactly_while_they_match(
    source_db: str, target_db: str, control_db: str, shards: int
) -> None:
    execute(source_db, TABLE, FULL)
    fill(source_db, 600)
    settings = settings_for(source_db, target_db, [RULE], {"snapshot_rows": 40}, shards=shards)
    with rig(settings, control_db) as made:
        made.start()
        with Crossing(source_db, shards) as load:
            eventually(lambda: load.transactions > 300, 120)
        wanted = expected(source_db)
        assert wanted
        eventually(lambda: arrived(target_db) == wanted, 60)
        made.stop()
    result = compare(settings, control_db)
    assert result.ok
    assert result.tables[0].source_rows == result.tables[0].target_rows == len(wanted)


def test_a_comparison_sees_through_filter_and_masks(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE)
    fill(source_db, 300)
    settings = settings_for(source_db, target_db, [RULE])
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: len(expected(source_db)) == len(arrived(target_db)) > 0, 30)
        made.stop()
    assert compare(settings, control_db).ok
    first, second = (row[0] for row in arrived(target_db)[:2])
    execute(
        target_db,
        f"UPDATE persons SET mail = 'p1@clear.example' WHERE person = {first}",
        f"DELETE FROM persons WHERE person = {second}",
        "INSERT INTO persons (person, name) VALUES (2, 'outside the filter')",
    )
    result = compare(settings, control_db)
    assert {kind: result.total(kind) for kind in DifferenceKind if kind is not DifferenceKind.PARKED} == {
        DifferenceKind.MISSING: 1,
        DifferenceKind.EXTRA: 1,
        DifferenceKind.DIFFERENT: 1,
    }
    assert [found.columns for found in result.tables[0].differences if found.columns] == [("mail",)]


def test_a_table_without_a_key_is_filtered_and_masked_too(source_db: str, target_db: str, control_db: str) -> None:
    """Its rows are copied, streamed and compared in other ways than those of tables with one."""
    execute(source_db, "CREATE TABLE visits (place text, score int, visitor text)")
    visits = "INSERT INTO visits SELECT '{}', n % 10, '{}' || n FROM generate_series(1, 200) n"
    execute(source_db, visits.format("copied", NAME))
    rule = {
        "name": "public.visits",
        "where": "score >= 5",
        "columns": {"mask": {"visitor": {"method": "redact", "text": "hidden"}}},
    }
    settings = settings_for(source_db, target_db, [rule])
    wanted = "SELECT place, score, 'hidden' FROM visits WHERE score >= 5 ORDER BY 1, 2"
    found = "SELECT place, score, visitor FROM visits ORDER BY 1, 2"
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "visits") and len(rows_of(target_db, found)) == 100, 30)
        execute(
            source_db,
            visits.format("streamed", NAME),
            "UPDATE visits SET score = score + 3 WHERE score IN (1, 3)",
            "UPDATE visits SET score = 0 WHERE score = 7",
            "DELETE FROM visits WHERE score = 9 AND place = 'copied'",
        )
        eventually(lambda: rows_of(target_db, found) == rows_of(source_db, wanted), 30)
        made.stop()
    assert compare(settings, control_db).ok


def test_a_resync_removes_rows_that_no_longer_match(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, TABLE)
    fill(source_db, 300)
    everything = {**RULE, "where": "id > 0"}
    with rig(settings_for(source_db, target_db, [everything]), control_db) as made:
        made.start()
        eventually(lambda: len(arrived(target_db)) == 300, 30)
        made.stop()
    with rig(settings_for(source_db, target_db, [RULE], {"snapshot_rows": 40}), control_db) as made:
        made.store.signals.send("source", SignalKind.RESYNC, "p", None)
        made.start()
        eventually(lambda: arrived(target_db) == expected(source_db), 30)
        made.stop()


def halted(made: Rig, state: State) -> bool:
    return made.store.pipelines.get("p").reason == state


def test_an_update_that_does_not_carry_what_the_filter_needs_halts_the_pipeline(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE)
    fill(source_db, 10)
    rule = {"name": "public.people", "where": "body LIKE 'b%' AND id > 0"}
    with rig(settings_for(source_db, target_db, [rule]), control_db) as made:
        made.start()
        eventually(
            lambda: has_table(target_db, "people") and len(rows_of(target_db, "SELECT id FROM people")) == 10, 30
        )
        execute(source_db, "UPDATE people SET body = body WHERE id = 1", "UPDATE people SET note = 'x' WHERE id = 2")
        eventually(lambda: halted(made, State.FILTER_UNDECIDED), 30)
        made.stop()
        assert "worker-sync resync p" in made.store.pipelines.get("p").recovery
        assert "b1" not in made.store.pipelines.get("p").detail
        execute(source_db, FULL)
        made.store.pipelines.resume("p")
        made.store.signals.send("source", SignalKind.RESYNC, "p", None)
        made.start()
        execute(source_db, "UPDATE people SET note = 'y' WHERE id = 3")
        eventually(lambda: rows_of(target_db, "SELECT id FROM people WHERE note = 'y'") == [(3,)], 30)
        made.stop()


def test_a_row_that_moves_in_without_its_large_column_is_refused_not_invented(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE)
    fill(source_db, 30)
    rule = {"name": "public.people", "where": "region = 'eu'"}
    with rig(settings_for(source_db, target_db, [rule], on_rejected="halt"), control_db) as made:
        made.start()
        eventually(
            lambda: has_table(target_db, "people") and len(rows_of(target_db, "SELECT id FROM people")) == 10, 30
        )
        execute(source_db, "UPDATE people SET region = 'us' WHERE id = 3", "UPDATE people SET note = 'n' WHERE id = 6")
        eventually(lambda: len(rows_of(target_db, "SELECT id FROM people")) == 9, 30)
        made.delivery.open.clear()
        with psycopg.connect(source_db) as connection:
            # Out and in again, with another large value meanwhile: what the target has left of the row is out of date.
            connection.execute("UPDATE people SET region = 'us', body = repeat('z', 3000) WHERE id = 6")
            connection.execute("UPDATE people SET region = 'eu' WHERE id = 6")
        made.delivery.open.set()
        eventually(lambda: halted(made, State.TARGET_REJECTED), 30)
        made.stop()
        assert rows_of(target_db, "SELECT left(body, 1) FROM people WHERE id = 6") == [("b",)]


def test_a_row_that_moves_in_behind_its_chunk_arrives_whole(source_db: str, target_db: str, control_db: str) -> None:
    """The log does not carry its large column, and its chunk left it out: it is read once more."""
    execute(source_db, TABLE)
    fill(source_db, 600)
    rule = {"name": "public.people", "where": "region = 'eu'"}
    settings = settings_for(source_db, target_db, [rule], {"snapshot_rows": 20})
    with rig(settings, control_db) as made:
        made.delivery.open.clear()
        made.start()
        # The copying waits for the target by now, and the first chunks are behind it.
        eventually(lambda: len(made.delivery.published) >= 8, 30)
        execute(
            source_db,
            "UPDATE people SET region = 'eu' WHERE id IN (1, 2)",
            "UPDATE people SET region = 'us' WHERE id = 3",
            "UPDATE people SET region = 'eu', id = 7000 WHERE id = 4",
            "UPDATE people SET region = 'eu' WHERE id = 5",
            "UPDATE people SET region = 'us' WHERE id = 5",
        )
        made.delivery.open.set()
        query = "SELECT * FROM people WHERE region = 'eu' ORDER BY id"
        wanted = rows_of(source_db, query)
        eventually(
            lambda: has_table(target_db, "people") and rows_of(target_db, "SELECT * FROM people ORDER BY id") == wanted,
            60,
        )
        made.stop()
        assert made.exit_code == 0


def test_a_masked_column_that_is_renamed_halts_before_it_travels_in_clear(
    source_db: str, target_db: str, control_db: str
) -> None:
    execute(source_db, TABLE, FULL)
    fill(source_db, 60)
    everything = {**RULE, "where": "id > 0"}
    with rig(settings_for(source_db, target_db, [everything], schema_changes="apply"), control_db) as made:
        made.start()
        eventually(lambda: len(arrived(target_db)) == 60, 30)
        execute(source_db, "ALTER TABLE people RENAME card TO kort", "UPDATE people SET score = 7 WHERE id = 1")
        eventually(lambda: halted(made, State.SCHEMA_CHANGED), 30)
        made.stop()
        assert CARD.encode() not in b"".join(encode(batch) for batch in made.delivery.published)


def test_rows_become_documents_in_their_shape(source_db: str, mongo_target: str, control_db: str) -> None:
    execute(source_db, TABLE, FULL)
    execute(
        source_db,
        "CREATE TABLE lines (doc int, line int, tags jsonb, PRIMARY KEY (doc, line))",
        """INSERT INTO lines SELECT 1, n, '{"a": {"b": [1, 2]}}' FROM generate_series(1, 5) n""",
    )
    fill(source_db, 60)
    lines = {"name": "lines", "where": "line <= 3", "columns": {"rename": {"doc": "document", "tags": "labels"}}}
    settings = settings_for(source_db, mongo_target, [RULE, lines])
    with rig(settings, control_db) as made, MongoClient[dict[str, Any]](mongo_target) as client:
        database = client.get_default_database()
        made.start()
        wanted = len(expected(source_db))
        eventually(lambda: database["persons"].count_documents({}) == wanted, 30)
        execute(source_db, "UPDATE lines SET line = 9 WHERE line = 1", "UPDATE lines SET line = 0 WHERE line = 5")
        execute(source_db, "UPDATE people SET region = 'eu', score = NULL WHERE id = 1")
        eventually(lambda: database["persons"].find_one({"_id": 1}), 30)
        eventually(lambda: set(database["lines"].distinct("_id.line")) == {0, 2, 3}, 30)
        made.stop()
        assert list(database["lines"].find(sort=[("_id.line", 1)])) == [
            {"_id": {"document": 1, "line": line}, "labels": {"a": {"b": [1, 2]}}} for line in (0, 2, 3)
        ]
        person = database["persons"].find_one({"_id": 1})
        assert person is not None
        assert list(person) == ["_id", "region", "score", "name", "card", "mail", "note", "body"]
        assert (person["name"], person["mail"], person["note"]) == ("***", hashed("p1@clear.example"), None)
    assert compare(settings, control_db).ok


def test_clear_values_are_in_no_batch_log_message_or_repr(
    source_db: str, target_db: str, control_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(source_db, TABLE, FULL)
    fill(source_db, 60)
    everything = {**RULE, "where": "id > 0"}
    settings = settings_for(source_db, target_db, [everything], on_rejected="halt")
    said: list[str] = [repr(settings), str(settings), settings.model_dump_json()]
    with caplog.at_level(logging.DEBUG), rig(settings, control_db) as made:
        made.start()
        eventually(lambda: len(arrived(target_db)) == 60, 30)
        execute(source_db, f"UPDATE people SET name = '{NAME} new', score = 1 WHERE id <= 30")
        execute(source_db, "UPDATE people SET id = id + 1000 WHERE id <= 10", "DELETE FROM people WHERE id = 60")
        eventually(lambda: len(rows_of(target_db, "SELECT FROM persons WHERE score = 1")) >= 30, 30)
        execute(target_db, "ALTER TABLE persons ADD CHECK (person < 5000)")
        execute(source_db, "UPDATE people SET id = 6000 WHERE id = 59")
        eventually(lambda: halted(made, State.TARGET_REJECTED), 30)
        made.stop()
        state = made.store.pipelines.get("p")
        said += [state.detail, state.recovery, caplog.text]
        said += [repr(batch) + str(batch) + batch.summary() for batch in made.delivery.published]
        wire = b"".join(encode(batch) for batch in made.delivery.published)
    result = compare(settings, control_db)
    assert not result.ok
    said += [repr(result), str(result.as_json(show_values=True)), repr(result.tables[0].pair)]
    clear = (NAME, CARD, "@clear.example", NOTE, "Clearinternal", SECRET)
    assert [value for value in clear if value in "".join(said) or value.encode() in wire] == []
    assert b"***" in wire
    assert "***" in "".join(said)


# -- columns made of documents

DOCUMENTS = """
CREATE TABLE orders ("_id" text PRIMARY KEY, document json NOT NULL, size int);
ALTER TABLE orders ALTER document SET STORAGE EXTERNAL;
"""
FIELDS = {
    "name": "orders",
    "fields": {
        "total": {"path": "order.total", "type": "decimal(12, 2)"},
        "placed": {"path": "order.at", "type": "timestamptz"},
        "customer": {"type": "text", "missing": None},
        "paid": {"type": "boolean"},
    },
    "rest": "more",
    "columns": {"rename": {"_id": "id"}, "mask": {"customer": {"method": "hash", "secret": SECRET}}},
    "where": "paid = TRUE",
}


def order(key: int, *, paid: str = "true", total: str = '{"$numberDecimal": "19.9"}') -> str:
    date = '{"$date": "2024-02-29T12:00:00.5Z"}'
    document = f'{{"_id": {key}, "order": {{"total": {total}, "at": {date}, "lines": [1]}}, "paid": {paid}, "x": 1.50}}'
    return f"INSERT INTO orders VALUES ('{key}', '{document}')"


ORDERS = "SELECT id, total::text, placed AT TIME ZONE 'UTC', customer, paid, more::text FROM orders ORDER BY id"


def test_documents_become_rows_with_declared_columns(source_db: str, target_db: str, control_db: str) -> None:
    execute(source_db, DOCUMENTS, "ALTER TABLE orders REPLICA IDENTITY FULL")
    execute(source_db, *(order(key, paid=str(key % 2 > 0).lower()) for key in range(10, 20)))
    settings = settings_for(source_db, target_db, [FIELDS])
    with rig(settings, control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "orders") and len(rows_of(target_db, ORDERS)) == 5, 30)
        execute(source_db, order(20), "UPDATE orders SET size = 1", "DELETE FROM orders WHERE \"_id\" = '11'")
        execute(
            source_db,
            """UPDATE orders SET document = replace(document::text, '"x"', '"customer": "Ada", "x"')::json
            WHERE "_id" = '13'""",
        )
        eventually(lambda: [row[3] for row in rows_of(target_db, ORDERS) if row[0] == "13"] == [hashed("Ada")], 30)
        made.stop()
    rows = rows_of(target_db, ORDERS)
    assert [row[0] for row in rows] == ["13", "15", "17", "19", "20"]
    assert rows[1][1] == "19.90"
    assert rows[1][2].isoformat() == "2024-02-29T12:00:00.500000"
    assert rows[1][3:] == (None, True, '{"order": {"lines": [1]}, "x": 1.50}')
    assert compare(settings, control_db).ok


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (order(7, total='"a lot"'), "collection public.orders, _id 7: order.total is no number"),
        (order(7, total="0.125"), "order.total is no decimal(12, 2): it has more digits behind the point"),
        (order(7).replace('"total"', '"totl"'), "order.total is missing (`missing: null` would make it NULL)"),
    ],
)
def test_a_document_that_is_not_as_declared_is_refused_without_showing_it(
    source_db: str, target_db: str, control_db: str, statement: str, message: str
) -> None:
    execute(source_db, DOCUMENTS, order(1))
    with rig(settings_for(source_db, target_db, [FIELDS]), control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "orders") and len(rows_of(target_db, ORDERS)) == 1, 30)
        execute(source_db, statement)
        eventually(lambda: halted(made, State.UNREPRESENTABLE_VALUE), 30)
        made.stop()
        detail = made.store.pipelines.get("p").detail
        assert message in detail
        assert "a lot" not in detail
        assert "0.125" not in detail


def test_an_update_that_leaves_the_document_unsent_leaves_its_columns_alone(
    source_db: str, target_db: str, control_db: str
) -> None:
    rule = {key: value for key, value in FIELDS.items() if key != "where"}
    execute(source_db, DOCUMENTS, order(1).replace("1.50", '"' + "x" * 5000 + '"'))
    with rig(settings_for(source_db, target_db, [rule]), control_db) as made:
        made.start()
        eventually(lambda: has_table(target_db, "orders") and len(rows_of(target_db, ORDERS)) == 1, 30)
        before = rows_of(target_db, ORDERS)
        execute(source_db, "UPDATE orders SET size = 5", order(2))
        eventually(lambda: len(rows_of(target_db, ORDERS)) == 2, 30)
        made.stop()
        assert rows_of(target_db, ORDERS)[:1] == before


def test_a_rule_that_the_table_does_not_allow_names_the_exact_place(source_db: str, target_db: str) -> None:
    execute(source_db, TABLE)
    rule = {
        "name": "people",
        "where": "regoin = 'eu'",
        "columns": {
            "exclude": ["id"],
            "rename": {"cart": "x", "card": "email"},
            "mask": {"name": {"method": "null"}, "score": {"method": "partial", "last": 2}},
        },
    }
    settings = parse(
        {
            "databases": {"source": {"url": source_db}, "target": {"url": target_db}},
            "pipelines": {"p": {"source": "source", "target": "target", "tables": [rule]}},
        },
        where="test",
        folder=Path("/nonexistent"),
    )
    with Workspace(settings) as space:
        found = problems(lambda: space.routes(space.settings.pipelines["p"]))
    at = "pipelines.p.tables[0]"
    assert found == [
        f"{at}.columns.rename: public.people has no column 'cart'; did you mean 'card'?",
        f"{at}.columns.exclude: 'id' belongs to the key of public.people; a key can't be left out",
        f"{at}.columns.mask.score: 'score' is decimal; partial is for text, use redact or hash",
        f"{at}.columns.mask.name: 'name' is NOT NULL and can't be masked by NULL; use redact or hash",
        f"{at}.columns.rename.card: 'email' is the name of another column that travels",
        f"{at}.where: no column 'regoin'; did you mean 'region'?",
    ]


def problems(action: Callable[[], object]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        action()
    return [str(problem) for problem in caught.value.problems]
