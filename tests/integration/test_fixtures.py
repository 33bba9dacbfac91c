"""The fixtures that other tests stand on do what they say."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
import redis
from pymongo import MongoClient
from pymongo.database import Database

from tests.fixtures.eventually import eventually
from tests.fixtures.fix_mysql import run
from tests.fixtures.fix_postgres import new_database
from tests.fixtures.fix_proxy import ProxyTo
from tests.fixtures.servers import with_database
from worker_sync.embedded import EmbeddedMysql, EmbeddedPostgres, EmbeddedRedis


def test_source_and_target_are_empty_databases_with_logical_decoding(source_db: str, target_db: str) -> None:
    assert source_db != target_db
    for url in (source_db, target_db):
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
            assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_database_goes_with_its_sessions_and_slots(postgres: str) -> None:
    with new_database(postgres, "gone") as url:
        name = url.rpartition("/")[2]
        session = psycopg.connect(url, autocommit=True)
        session.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"{name}_slot",))

    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None
        slots = connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (f"{name}_slot",))
        assert slots.fetchone() is None
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()


def test_postgres15_is_a_15(source_db15: str) -> None:
    with psycopg.connect(source_db15) as connection:
        assert connection.info.server_version // 10000 == 15


def test_a_server_of_the_tests_own_can_be_killed_and_comes_back(own_postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")

    own_postgres.kill()
    own_postgres.start()

    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT id FROM t").fetchone() == (1,)


def test_mongodb_has_transactions_and_change_streams(mongo_source: str, mongo_target: str) -> None:
    assert mongo_source != mongo_target
    client: MongoClient[dict[str, Any]] = MongoClient(mongo_source)
    with client:
        database: Database[dict[str, Any]] = client.get_default_database()
        assert database.list_collection_names() == []
        with database.watch() as stream:
            with client.start_session() as session, session.start_transaction():
                database.t.insert_one({"_id": 1}, session=session)
            assert next(stream)["documentKey"] == {"_id": 1}


def test_a_wiped_or_killed_redis_is_empty(redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("a", 1)
        client.flushall()
        assert client.get("a") is None
        client.set("a", 2)

    redis_server.kill()
    redis_server.start()

    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get("a") is None


def test_the_proxy_cuts_and_restores(source_db: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(source_db)
    session = psycopg.connect(proxy.url)
    assert session.execute("SELECT 1").fetchone() == (1,)

    proxy.cut()

    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(proxy.url)
    proxy.restore()
    with psycopg.connect(proxy.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_the_proxy_drops_connections_and_takes_new_ones(source_db: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(source_db)
    session = psycopg.connect(proxy.url)

    proxy.drop()

    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    with psycopg.connect(proxy.url) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert proxy.connections == 2


def test_the_proxy_falls_silent_without_closing(redis_url: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(redis_url)
    with redis.Redis.from_url(proxy.url, socket_timeout=0.3, retry=None) as client:
        assert client.ping()

        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            client.ping()

        proxy.restore()
        assert eventually(client.ping)


def test_the_proxy_delays(redis_url: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(redis_url)
    with redis.Redis.from_url(proxy.url) as client:
        client.ping()
        proxy.delay(0.1)

        start = time.monotonic()
        client.ping()

    assert time.monotonic() - start >= 0.2


def test_mongodb_is_reached_through_the_proxy(mongo_source: str, proxy_to: ProxyTo) -> None:
    proxy = proxy_to(mongo_source)
    client: MongoClient[dict[str, Any]] = MongoClient(proxy.url)
    with client:
        database: Database[dict[str, Any]] = client.get_default_database()
        database.t.insert_one({"_id": 1})
    assert proxy.connections > 0


def test_with_database_keeps_everything_else() -> None:
    assert with_database("mongodb://u:p@h:1/?a=b", "x") == "mongodb://u:p@h:1/x?a=b"


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_mysql_databases_are_empty_and_log_whole_rows(flavour: str, request: pytest.FixtureRequest) -> None:
    urls = [request.getfixturevalue(f"{flavour}_{role}") for role in ("source", "target")]
    assert urls[0] != urls[1]
    for url in urls:
        assert url.startswith(f"{flavour}://")
        assert run(url, "SHOW TABLES") == []
        log = run(url, "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata")
        assert log == [(1, "ROW", "FULL", "FULL")]


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_a_mysql_of_the_tests_own_can_be_killed_and_comes_back(flavour: str, request: pytest.FixtureRequest) -> None:
    server: EmbeddedMysql = request.getfixturevalue(f"own_{flavour}")
    run(server.url, "CREATE DATABASE d", "CREATE TABLE d.t (id int PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")

    server.kill()
    server.start()

    assert run(server.url, "SELECT id FROM d.t") == [(1,)]


def test_mysql_has_global_transaction_ids(mysql_source: str) -> None:
    assert run(mysql_source, "SELECT @@gtid_mode, @@enforce_gtid_consistency") == [("ON", "ON")]
