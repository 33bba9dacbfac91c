"""Debezium's embedded engine on the same log: its capture, delivering JSON to a handler that only counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import psycopg

from benchmarks import load
from benchmarks.bed import Bed
from benchmarks.options import Options
from benchmarks.reading import read_stream, stream
from benchmarks.report import Figure, Report
from benchmarks.throughput import USUAL, table

ROOT: Final = Path(__file__).parents[1]
#: An environment of its own: the engine brings 200 MB of Java archives that nothing else needs.
ENVIRONMENT: Final = ROOT / ".venv-debezium"
LOCK: Final = ROOT / "requirements-debezium.lock"
NAME: Final = "bench_debezium"
#: A run takes seconds; the Java machine's start is in it.
LONGEST_S: Final = 600


class Unavailable(Exception):
    """Debezium can't run here"""


def debezium(bed: Bed, options: Options, report: Report) -> None:
    """One load, read by both: ours first, then Debezium's, each alone on the machine."""
    try:
        python = environment()
    except Unavailable as reason:
        print(f"debezium    skipped: {reason}", flush=True)
        return
    with table(bed, "debezium") as fresh, stream(bed, fresh) as source, _slot(bed, fresh):
        load.bulk(bed.source, fresh, options.rows, USUAL)
        rows, seconds, _ = read_stream(bed, source)
        theirs = _run(python, bed, fresh, options.rows)
        if not rows == theirs["rows"] == options.rows:
            raise load.LoadFailed(f"of {options.rows} rows ours read {rows}, Debezium {theirs['rows']}")
        note = f"native is Debezium's engine here; its start took {theirs['start']:.1f} s more"
        rate = theirs["rows"] / theirs["read"] if theirs["read"] else None
        report.add(Figure("debezium", "capture of the same log", "rows/s", rows / seconds, rate, note, rows, rows))


def environment() -> Path:
    """The Python of the engine's environment, made when it is missing. Raises Unavailable with the reason."""
    if shutil.which("java") is None:
        raise Unavailable("no Java on this machine (the engine needs 17 or later)")
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".complete").exists():
        _command(sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT))
        _command(str(python), "-m", "pip", "--quiet", "install", "--require-hashes", "-r", str(LOCK))
        (ENVIRONMENT / ".complete").touch()
    return python


def _command(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"its environment could not be made: {lines[-1]}")


@contextmanager
def _slot(bed: Bed, fresh: str) -> Iterator[None]:
    """A slot and a publication of Debezium's, from before the load."""
    with psycopg.connect(bed.source, autocommit=True) as connection:
        connection.execute(f"CREATE PUBLICATION {NAME} FOR TABLE public.{fresh}".encode())
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (NAME,))
        try:
            yield
        finally:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (NAME,))
            connection.execute(f"DROP PUBLICATION {NAME}".encode())


def _run(python: Path, bed: Bed, fresh: str, rows: int) -> dict[str, Any]:
    properties, took = bed.directory / "debezium.json", bed.directory / "debezium-took.json"
    properties.write_text(json.dumps(_properties(bed, fresh)))
    script = Path(__file__).with_name("debezium_engine.py")
    command = [str(python), str(script), str(rows), str(properties), str(took)]
    try:
        done = subprocess.run(
            command, cwd=bed.directory, capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        raise load.LoadFailed(f"Debezium did not deliver {rows} rows within {LONGEST_S} s") from None
    if done.returncode:
        raise load.LoadFailed(f"Debezium's engine ended with code {done.returncode}: {done.stderr.strip()[-400:]}")
    result: dict[str, Any] = json.loads(took.read_text())
    return result


def _properties(bed: Bed, fresh: str) -> dict[str, str]:
    url = urlsplit(bed.source)
    return {
        "name": NAME,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
        "topic.prefix": NAME,
        "plugin.name": "pgoutput",
        "slot.name": NAME,
        "publication.name": NAME,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        "table.include.list": f"public.{fresh}",
        "database.hostname": url.hostname or "127.0.0.1",
        "database.port": str(url.port or 5432),
        "database.user": unquote(url.username or "postgres"),
        "database.password": unquote(url.password or ""),
        "database.dbname": url.path.lstrip("/"),
        "schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
    }
