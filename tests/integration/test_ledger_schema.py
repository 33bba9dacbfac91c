"""Who may do what to a ledger: its writer adds, and nobody changes anything in passing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from connectors.base import Finding
from connectors.ledger.schema import OWNER, SCHEMA
from tests.integration.ledger_rig import batch, changes, fenced, inserts, opened, read

#: What nobody may do, whatever their rights; `%s` is a partition.
ALTERING = [
    "UPDATE worker_sync_ledger.entries SET entry = '{}'",
    "UPDATE worker_sync_ledger.entries SET entry = '{}' WHERE number = -1",
    "DELETE FROM worker_sync_ledger.entries",
    "DELETE FROM worker_sync_ledger.entries WHERE number = 0",
    "TRUNCATE worker_sync_ledger.entries",
    f"INSERT INTO {SCHEMA}.entries TABLE {SCHEMA}.entries ON CONFLICT (number, recorded_at) DO UPDATE SET entry = ''",
    "UPDATE worker_sync_ledger.%s SET entry = '{}'",
    "DELETE FROM worker_sync_ledger.%s",
    "TRUNCATE worker_sync_ledger.%s",
    "UPDATE worker_sync_ledger.subtrees SET hash = sha256('')",
    "DELETE FROM worker_sync_ledger.subtrees",
    "TRUNCATE worker_sync_ledger.subtrees",
    "UPDATE worker_sync_ledger.checkpoints SET note = ''",
    "DELETE FROM worker_sync_ledger.checkpoints",
    "TRUNCATE worker_sync_ledger.checkpoints",
    "DELETE FROM worker_sync_ledger.head",
    "TRUNCATE worker_sync_ledger.head",
    "UPDATE worker_sync_ledger.head SET size = 0, roots = ''",
    "UPDATE worker_sync_ledger.head SET roots = sha256('')",
    "UPDATE worker_sync_ledger.head SET recorded_at = '-infinity'",
    "UPDATE worker_sync_ledger.personal_keys SET wrapped_master = 'y'",
    "UPDATE worker_sync_ledger.personal_keys SET slot = 'b', wrapped_master = NULL, removed_at = now()",
    "UPDATE worker_sync_ledger.personal_keys SET wrapped_master = NULL, removed_at = now()",
    "DELETE FROM worker_sync_ledger.personal_keys",
    "TRUNCATE worker_sync_ledger.personal_keys",
]
#: What a writer may not do beside that.
TAKING_AWAY = [
    "ALTER TABLE worker_sync_ledger.entries DISABLE TRIGGER refuse",
    "ALTER TABLE worker_sync_ledger.%s DISABLE TRIGGER refuse",
    "ALTER TABLE worker_sync_ledger.entries DETACH PARTITION worker_sync_ledger.%s",
    "DROP TABLE worker_sync_ledger.%s",
    "DROP TABLE worker_sync_ledger.checkpoints",
    "DROP TABLE worker_sync_ledger.personal_keys",
    "ALTER TABLE worker_sync_ledger.personal_keys DISABLE TRIGGER only_remove",
    "DROP SCHEMA worker_sync_ledger CASCADE",
    "DROP FUNCTION worker_sync_ledger.refuse() CASCADE",
    "CREATE TABLE worker_sync_ledger.mine ()",
    "INSERT INTO worker_sync_ledger.head (size, roots) VALUES (0, '')",
    "INSERT INTO worker_sync_ledger.%s SELECT * FROM worker_sync_ledger.entries",
    "SET session_replication_role = replica",
]


def role(admin: str, name: str, *attributes: str) -> str:
    """The URL of the database for a new role that may create schemas in it."""
    parts = urlsplit(admin)
    database = parts.path.lstrip("/")
    user = f"{database}_{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'user' {' '.join(attributes)}".encode())
        connection.execute(f"GRANT CREATE ON DATABASE {database} TO {user}".encode())
    return urlunsplit(parts._replace(netloc=f"{user}:user@{parts.netloc.rpartition('@')[2]}"))


def recorded(url: str) -> None:
    """One entry of each sort of table."""
    with opened(url) as sink:
        sink.prepare()
        fenced(sink)
        sink.apply(batch(1, inserts(1, 300)))
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.checkpoints (size, signed_at, note) VALUES (1, now(), 'note')"
        )
        connection.execute(
            "INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES ('a', true, 'x')"
        )


def partition(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT tableoid::regclass::text FROM worker_sync_ledger.entries LIMIT 1").fetchone()
    assert row is not None
    return str(row[0]).rpartition(".")[2]


def finding(url: str, check: str) -> Finding:
    with opened(url) as sink:
        return next(found for found in sink.preflight([]) if found.check == check)


@pytest.fixture
def writer(target_db: str) -> Iterator[str]:
    """The URL of a ledger for its writer, a role that has no rights but those that were granted."""
    recorded(target_db)
    url = role(target_db, "writer")
    statements = finding(url, "ledger-tables").fix.split("; ")
    with psycopg.connect(target_db) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    yield url
    with psycopg.connect(target_db) as connection:
        connection.execute(f"DROP OWNED BY {urlsplit(url).username}".encode())


def allowed(url: str, statements: Sequence[str], before: str = "SELECT 1") -> list[tuple[str, str]]:
    """Those of the statements that were not refused for want of a right, with what became of them."""
    month = partition(url)
    found = []
    for statement in statements:
        with psycopg.connect(url) as connection:
            connection.execute(before.encode())
            try:
                connection.execute(statement.replace("%s", month).encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            except psycopg.Error as error:
                found.append((statement, str(error)))
            else:
                found.append((statement, "done"))
    return found


def test_a_writer_can_only_add(writer: str, target_db: str) -> None:
    before = read(target_db)
    assert allowed(writer, [*ALTERING, *TAKING_AWAY]) == []
    assert read(target_db) == before


def test_a_writer_makes_room_for_the_near_future_only(writer: str) -> None:
    with psycopg.connect(writer) as connection, pytest.raises(psycopg.errors.InvalidParameterValue):
        connection.execute("SELECT worker_sync_ledger.ensure_partitions(now() + interval '90 days')")


def test_a_writer_removes_a_key_slot_but_the_last(writer: str, target_db: str) -> None:
    with psycopg.connect(writer) as connection:
        connection.execute(
            "INSERT INTO worker_sync_ledger.personal_keys (slot, is_first, wrapped_master) VALUES ('b', false, 'x')"
        )
        remove = "UPDATE worker_sync_ledger.personal_keys SET wrapped_master = NULL, removed_at = now() WHERE slot = %s"
        connection.execute(remove, ("a",))
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="last key slot"):
            connection.execute(remove, ("b",))


def test_a_writer_adds(writer: str, target_db: str) -> None:
    with opened(writer) as sink, psycopg.connect(target_db) as admin:
        sink.apply(batch(2, inserts(2)))
        next_year(admin)
        sink.apply(batch(3, inserts(3)))
    assert len(changes(target_db)) == 302
    assert finding(writer, "ledger-tables").ok
    assert finding(writer, "ledger-owner").detail.startswith(f"the ledger belongs to {OWNER}")


def next_year(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """The last entry was recorded in a month that has no partition yet, by a clock that is far ahead."""
    admin.execute("UPDATE worker_sync_ledger.head SET recorded_at = recorded_at + interval '400 days'")
    admin.commit()


@pytest.mark.parametrize("how", [f"SET ROLE {OWNER}", "SET session_replication_role = replica", "SELECT 1"])
def test_not_even_the_owner_or_a_superuser_changes_anything_in_passing(target_db: str, how: str) -> None:
    recorded(target_db)
    before = read(target_db)
    assert allowed(target_db, ALTERING, how) == []
    assert read(target_db) == before


def test_a_new_month_is_as_closed_as_the_first_one(target_db: str) -> None:
    recorded(target_db)
    with psycopg.connect(target_db) as admin:
        next_year(admin)
    with opened(target_db) as sink:
        sink.apply(batch(2, inserts(2)))
    with psycopg.connect(target_db) as admin:
        months = admin.execute("SELECT DISTINCT tableoid::regclass::text FROM worker_sync_ledger.entries").fetchall()
        owners = admin.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class "
            "WHERE relnamespace = 'worker_sync_ledger'::regnamespace"
        ).fetchall()
    assert len(months) == 2
    assert owners == [(OWNER,)]
    for (month,) in months:
        delete = sql.SQL("DELETE FROM {}").format(sql.Identifier(*month.split(".")))
        connection = psycopg.connect(target_db, options="-c session_replication_role=replica")
        with connection as admin, pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute(delete)


def test_a_role_that_may_create_roles_gives_the_ledger_away(target_db: str) -> None:
    url = role(target_db, "maker", "CREATEROLE")
    with psycopg.connect(target_db, autocommit=True) as admin:
        there = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone()
        if there:
            admin.execute(
                f"GRANT {OWNER} TO {urlsplit(url).username} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE".encode()
            )
    recorded(url)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        connection.execute("DELETE FROM worker_sync_ledger.entries")
    assert "permission denied" in str(caught.value)
    assert "may create roles" in finding(url, "ledger-owner").detail
    drop(target_db, url)


def test_a_role_that_may_not_keeps_it_and_preflight_tells_a_dba_what_to_run(target_db: str) -> None:
    url = role(target_db, "alone")
    assert finding(url, "ledger-tables").ok
    recorded(url)
    found = finding(url, "ledger-owner")
    assert found.ok
    assert "belong to the role that writes them" in found.detail
    with psycopg.connect(target_db) as admin:
        for statement in found.fix.split("; "):
            if not statement.startswith("CREATE ROLE"):
                admin.execute(statement.encode())
    assert finding(url, "ledger-owner").detail.startswith(f"the ledger belongs to {OWNER}")
    with opened(url) as sink:
        sink.apply(batch(2, inserts(2)))
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("ALTER TABLE worker_sync_ledger.head DISABLE TRIGGER ALL")
    drop(target_db, url)


def drop(admin: str, url: str) -> None:
    with psycopg.connect(admin) as connection:
        connection.execute(f"DROP OWNED BY {urlsplit(url).username} CASCADE".encode())


def test_the_role_of_the_embedded_server_is_told_what_it_could_do(target_db: str) -> None:
    recorded(target_db)
    found = finding(target_db, "ledger-owner")
    assert found.ok
    assert "is a superuser and so could alter the ledger; verification would show it" in found.detail
    assert "CREATE ROLE worker_sync_ledger_writer" in found.fix


def test_two_processes_may_make_it_at_once(target_db: str) -> None:
    failures: list[BaseException] = []

    def make() -> None:
        try:
            with opened(target_db) as sink:
                sink.prepare()
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read(target_db) == []


def test_it_is_made_on_the_oldest_server(source_db15: str) -> None:
    recorded(source_db15)
    assert len(changes(source_db15)) == 300


def test_it_is_made_on_the_oldest_server_by_a_role_that_creates_roles(source_db15: str) -> None:
    url = role(source_db15, "maker", "CREATEROLE")
    recorded(url)
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM worker_sync_ledger.entries")
    drop(source_db15, url)
