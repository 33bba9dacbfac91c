"""What a user gets wrong: one clear message, the right exit code, and nothing half-created."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from psycopg import sql

from tests.fixtures.fix_postgres import new_database
from tests.fixtures.running import ROOT
from worker_sync.embedded import EmbeddedPostgres

pytestmark = pytest.mark.timeout(240)

SECRET = "not-to-be-shown"
NOBODY = "reads_nothing"
UNUSED_PORT = 1
FINDING, WRONG, UNREACHABLE = 1, 2, 3

LEFT_IN_SOURCE = (
    "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() "
    "UNION ALL SELECT pubname::text FROM pg_publication"
)
LEFT_IN_TARGET = (
    "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'worker_sync%' "
    "UNION ALL SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
)


@dataclass
class Setting:
    """A configuration that is right, and the file that the test makes of it."""

    folder: Path
    source: str
    target: str
    data: dict[str, Any]
    #: What the test's own mistake leaves in the source on purpose.
    roles: list[str] = field(default_factory=list)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        file = self.folder / "worker-sync.yaml"
        file.write_text(yaml.safe_dump(self.data))
        return subprocess.run(
            [sys.executable, "-m", "worker_sync", "-c", str(file), *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=90,
        )

    def source_url(self, **parts: str) -> None:
        """Change parts of the source's URL: user, password, host, port, scheme."""
        self.data["databases"]["shop"]["url"] = with_parts(self.source, **parts)


def with_parts(url: str, **parts: str) -> str:
    found = urlsplit(url)
    user, password = parts.get("user", found.username), parts.get("password", found.password)
    host, port = parts.get("host", found.hostname), parts.get("port", found.port)
    return f"{parts.get('scheme', found.scheme)}://{user}:{password}@{host}:{port}{found.path}"


def rows(url: str, query: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(query.encode())]


@pytest.fixture
def setting(postgres: str, source_db: str, target_db: str, redis_url: str, tmp_path: Path) -> Iterator[Setting]:
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
    with new_database(postgres, "control") as control:
        data = {
            "control": control,
            "broker": redis_url,
            "state_dir": str(tmp_path / "state"),
            "databases": {"shop": {"url": source_db}, "reporting": {"url": target_db}},
            "pipelines": {"p": {"source": "shop", "target": "reporting", "tables": ["public.orders"]}},
            "flower": {"enabled": False},
        }
        yield Setting(tmp_path, source_db, target_db, data)


def unknown_table(setting: Setting) -> None:
    setting.data["pipelines"]["p"]["tables"] = ["public.ordres"]


def wrong_password(setting: Setting) -> None:
    setting.source_url(password=SECRET)


def wrong_password_of_target(setting: Setting) -> None:
    setting.data["databases"]["reporting"]["url"] = with_parts(setting.target, password=SECRET)


def unreachable_host(setting: Setting) -> None:
    setting.source_url(port=str(UNUSED_PORT), password=SECRET)


def unreachable_control(setting: Setting) -> None:
    setting.data["control"] = with_parts(setting.data["control"], port=str(UNUSED_PORT), password=SECRET)


def unknown_key(setting: Setting) -> None:
    setting.data["pipelines"]["p"]["tabels"] = ["public.orders"]


def unknown_scheme(setting: Setting) -> None:
    setting.source_url(scheme="postgersql", password=SECRET)


def bad_port(setting: Setting) -> None:
    setting.source_url(port="54x2", password=SECRET)


def no_url(setting: Setting) -> None:
    setting.data["databases"]["shop"]["url"] = SECRET


#: The mistake, the exit code, and words of the message that say what to do.
MISTAKES: list[tuple[Callable[[Setting], None], int, list[str]]] = [
    (unknown_table, WRONG, ["public.ordres", "did you mean 'public.orders'"]),
    (wrong_password, UNREACHABLE, ["shop", "password authentication failed"]),
    (wrong_password_of_target, UNREACHABLE, ["reporting", "password authentication failed"]),
    (unreachable_host, UNREACHABLE, ["shop", "refused"]),
    (unreachable_control, UNREACHABLE, ["control store", "refused"]),
    (unknown_key, WRONG, ["pipelines.p.tabels", "did you mean 'tables'"]),
    (unknown_scheme, WRONG, ["databases.shop.url", "postgresql"]),
    (bad_port, WRONG, ["databases.shop.url", "port"]),
    (no_url, WRONG, ["databases.shop.url"]),
]


def explains(done: subprocess.CompletedProcess[str], code: int, words: list[str]) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert "bug of Worker-Sync" not in said
    assert SECRET not in said
    assert [word for word in words if word not in said] == [], said
    assert len(said.strip().splitlines()) <= 8, said


def leaves_nothing(setting: Setting) -> None:
    assert rows(setting.source, LEFT_IN_SOURCE) == []
    assert rows(setting.target, LEFT_IN_TARGET) == []


@pytest.mark.parametrize("command", ["init", "up"])
@pytest.mark.parametrize(("mistake", "code", "words"), MISTAKES, ids=[mistake.__name__ for mistake, *_ in MISTAKES])
def test_a_mistake_is_explained_and_leaves_nothing_behind(
    setting: Setting, command: str, mistake: Callable[[Setting], None], code: int, words: list[str]
) -> None:
    mistake(setting)
    explains(setting.run(command), code, words)
    leaves_nothing(setting)


def test_a_server_without_logical_decoding_is_refused_with_the_statement_that_mends_it(
    setting: Setting, own_postgres: EmbeddedPostgres
) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
    own_postgres.stop()
    own_postgres._settings["wal_level"] = "replica"
    own_postgres.start()
    setting.source = setting.data["databases"]["shop"]["url"] = own_postgres.url
    explains(setting.run("init"), FINDING, ["wal_level is replica", "ALTER SYSTEM SET wal_level = logical"])
    leaves_nothing(setting)


@pytest.fixture
def nobody(setting: Setting, postgres: str) -> Iterator[Setting]:
    """A user who may only connect."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(NOBODY), SECRET))
        yield setting
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(NOBODY)))


def test_a_source_user_without_privileges_is_told_which_to_grant(nobody: Setting) -> None:
    nobody.source_url(user=NOBODY, password=SECRET)
    done = nobody.run("init")
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said, SECRET in said) == (FINDING, False, False), said
    assert f"ALTER ROLE {NOBODY} REPLICATION" in said
    assert "GRANT SELECT ON" in said
    assert "Nothing was created" in said
    leaves_nothing(nobody)


def test_a_target_user_without_privileges_is_told_which_to_grant(nobody: Setting) -> None:
    nobody.data["databases"]["reporting"]["url"] = with_parts(nobody.target, user=NOBODY, password=SECRET)
    explains(nobody.run("init"), FINDING, ["GRANT CREATE ON DATABASE", "Nothing was created"])
    leaves_nothing(nobody)
