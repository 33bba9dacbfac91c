"""Large transactions, rows, tables and numbers of tables, through a whole system, with the memory of each process."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.faults.harness import execute, mongo, running_system
from tests.fixtures import fix_mysql
from tests.fixtures.running import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MEGABYTE = 1024 * 1024
MOST_MEMORY = 300 * MEGABYTE
#: A million changes take a while on a machine that runs both ends and other tests.
LONG_S = 300.0
COLUMNS = 200
TABLES = 500
#: What a MongoDB document may hold besides its body.
BODY = 15 * MEGABYTE
#: A million numbers, in the words of both servers.
DIGITS = "d AS (SELECT 0 AS n UNION ALL " + " UNION ALL ".join(f"SELECT {n}" for n in range(1, 10)) + ")"
NUMBER = "a.n + 10 * b.n + 100 * c.n + 1000 * e.n + 10000 * f.n + 100000 * g.n"
ALL = "FROM d a, d b, d c, d e, d f, d g"


def peak_memory(role: Role) -> int:
    """The most that the process ever held, in bytes."""
    status = Path(f"/proc/{role.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.fixture
def plain(
    source_db: str, target_db: str, mongo_target: str, control_db: str, redis_url: str, tmp_path: Path
) -> tuple[Path, str, dict[str, str], str, str]:
    """What a system is made of; its tables are the test's own."""
    return tmp_path, source_db, {"reporting": target_db, "catalog": mongo_target}, control_db, redis_url


def test_a_transaction_of_a_million_rows_takes_bounded_memory(
    plain: tuple[Path, str, dict[str, str], str, str],
) -> None:
    directory, source, targets, control, broker = plain
    execute(source, "CREATE TABLE numbers (id int PRIMARY KEY, name text, amount numeric)")
    with running_system(
        directory, source, {"reporting": targets["reporting"]}, control, broker, capture={"batch_changes": 4000}
    ) as system:
        capture, worker = system.capture(), system.worker()
        system.until(lambda: has_table(targets["reporting"], "numbers"), "the target table exists")
        execute(source, "INSERT INTO numbers SELECT n, 'row ' || n, n / 100.0 FROM generate_series(1, 1000000) n")
        done = system.cli_wait("reporting", LONG_S)
        assert done.code == 0, done.text
        assert execute(targets["reporting"], "SELECT count(*), sum(id), sum(amount) FROM numbers") == execute(
            source, "SELECT count(*), sum(id), sum(amount) FROM numbers"
        )
        assert peak_memory(capture) < MOST_MEMORY
        assert peak_memory(worker) < MOST_MEMORY


@pytest.mark.parametrize("server", ["mariadb", "mysql"])
def test_a_mysql_transaction_of_a_million_rows_takes_bounded_memory(
    server: str, plain: tuple[Path, str, dict[str, str], str, str], request: pytest.FixtureRequest
) -> None:
    directory, _, targets, control, broker = plain
    with fix_mysql.new_mysql_database(request.getfixturevalue(server), "source") as source:
        fix_mysql.run(source, "CREATE TABLE numbers (id int PRIMARY KEY, name varchar(40), amount decimal(12,2))")
        with running_system(
            directory,
            source,
            {"reporting": targets["reporting"]},
            control,
            broker,
            capture={"batch_changes": 4000},
            tables=["*"],
        ) as system:
            capture, worker = system.capture(), system.worker()
            system.until(lambda: has_table(targets["reporting"], "numbers"), "the target table exists")
            fix_mysql.run(
                source, f"INSERT INTO numbers WITH {DIGITS} SELECT {NUMBER}, concat('row ', {NUMBER}), 1.25 {ALL}"
            )
            done = system.cli_wait("reporting", LONG_S)
            assert done.code == 0, done.text
            sums = "SELECT count(*), sum(id), sum(amount) FROM numbers"
            [(count, total, amount)] = execute(targets["reporting"], sums)
            assert (count, total, amount) == fix_mysql.run(source, sums)[0]
            assert count == 1_000_000
            assert peak_memory(capture) < MOST_MEMORY
            assert peak_memory(worker) < MOST_MEMORY


def test_a_row_of_15_megabytes_arrives_whole(plain: tuple[Path, str, dict[str, str], str, str]) -> None:
    directory, source, targets, control, broker = plain
    execute(source, "CREATE TABLE bodies (id int PRIMARY KEY, body bytea, note text)")
    execute(source, f"INSERT INTO bodies VALUES (1, decode(repeat('ab', {BODY}), 'hex'), 'copied')")
    with running_system(directory, source, targets, control, broker) as system:
        system.capture()
        system.worker()
        execute(source, f"INSERT INTO bodies VALUES (2, decode(repeat('cd', {BODY}), 'hex'), 'streamed')")
        execute(source, "UPDATE bodies SET note = 'changed' WHERE id = 2")
        for pipeline in targets:
            done = system.cli_wait(pipeline, LONG_S)
            assert done.code == 0, done.text
        expected = [(1, b"\xab" * BODY, "copied"), (2, b"\xcd" * BODY, "changed")]
        found = execute(targets["reporting"], "SELECT * FROM bodies ORDER BY id")
        assert found == expected
        with mongo(targets["catalog"]) as database:
            documents = list(database["bodies"].find().sort("_id"))
        assert [(one["_id"], bytes(one["body"]), one["note"]) for one in documents] == expected


@pytest.mark.parametrize("megabytes", [15, pytest.param(64, marks=pytest.mark.long)])
def test_a_row_that_is_too_large_for_the_broker_travels_as_a_claim(
    plain: tuple[Path, str, dict[str, str], str, str], megabytes: int
) -> None:
    directory, source, targets, control, broker = plain
    text = f"(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, {megabytes} * 32768))"
    execute(source, "CREATE TABLE bodies (id int PRIMARY KEY, body text)", f"INSERT INTO bodies VALUES (1, {text})")
    reporting = {"reporting": targets["reporting"]}
    with (
        running_system(directory, source, reporting, control, broker) as system,
        redis.Redis.from_url(broker) as redis_,
    ):
        system.change({"broker_payload_limit_bytes": 65_536})
        capture, worker = system.capture(), system.worker()
        execute(source, f"INSERT INTO bodies VALUES (2, {text})", "INSERT INTO bodies VALUES (3, 'small')")
        done = system.cli_wait("reporting", LONG_S)
        assert done.code == 0, done.text
        digest = "SELECT id, length(body), md5(body) FROM bodies ORDER BY id"
        assert execute(targets["reporting"], digest) == execute(source, digest)
        assert execute(control, "SELECT count(*) FROM worker_sync_control.claims") == [(0,)]
        assert int(redis_.info("memory")["used_memory_peak"]) < 8 * MEGABYTE
        # One row of the size, in the forms that it takes on its way, beside the process itself.
        most = 150 * MEGABYTE + 12 * megabytes * MEGABYTE
        assert peak_memory(capture) < most
        assert peak_memory(worker) < most


def test_a_table_of_200_columns_arrives(plain: tuple[Path, str, dict[str, str], str, str]) -> None:
    directory, source, targets, control, broker = plain
    columns = ", ".join(f"c{number} text" for number in range(COLUMNS))
    values = ", ".join(f"'v{number}-' || n" for number in range(COLUMNS))
    execute(source, f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
    execute(source, f"INSERT INTO wide SELECT n, {values} FROM generate_series(1, 50) n")
    with running_system(directory, source, targets, control, broker) as system:
        system.capture()
        system.worker()
        execute(source, f"INSERT INTO wide SELECT n, {values} FROM generate_series(51, 100) n")
        execute(source, "UPDATE wide SET c199 = NULL WHERE id % 3 = 0")
        system.assert_verified(LONG_S)
        assert execute(targets["reporting"], "SELECT * FROM wide ORDER BY id") == execute(
            source, "SELECT * FROM wide ORDER BY id"
        )


def test_500_tables_arrive(plain: tuple[Path, str, dict[str, str], str, str]) -> None:
    directory, source, targets, control, broker = plain
    execute(
        source,
        f"DO $$ BEGIN FOR n IN 1..{TABLES} LOOP "
        "EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, name text)', n); "
        "EXECUTE format('INSERT INTO t%s VALUES (1, ''old'')', n); END LOOP; END $$",
    )
    with running_system(directory, source, {"reporting": targets["reporting"]}, control, broker) as system:
        system.capture()
        system.worker()
        execute(
            source,
            f"DO $$ BEGIN FOR n IN 1..{TABLES} LOOP "
            "EXECUTE format('INSERT INTO t%s VALUES (2, ''new'')', n); END LOOP; END $$",
        )
        system.assert_verified(LONG_S)
        counts = " UNION ALL ".join(f"SELECT count(*) AS c FROM t{number}" for number in range(1, TABLES + 1))
        assert execute(targets["reporting"], f"SELECT sum(c) FROM ({counts}) every") == [(2 * TABLES,)]


def has_table(url: str, name: str) -> bool:
    return execute(url, f"SELECT to_regclass('{name}')") != [(None,)]
