"""A target that hangs: the window is the only buffer, and the source's keepalives go on."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import psycopg
import pytest

from connectors.postgres.stream import PIECE_BYTES
from tests.faults.harness import execute, running_system
from tests.faults.load import Load
from tests.fixtures.fix_proxy import ProxyTo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STALL_S = 60.0
WINDOW = 4 * 1024 * 1024
#: What the capture may take on top of what it took before the stall, while many times as much is written: its window,
#: a read of the stream, and what Python does not give back.
MORE_MEMORY = 48 * 1024 * 1024
WRITTEN = 128 * 1024 * 1024

#: Rows of a megabyte, several times as much as the capture may take.
LARGE = 150

SENDERS = (
    "SELECT pid FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid "
    "WHERE s.database = current_database()"
)
BIG = "INSERT INTO items SELECT n, 'big', n, repeat(md5(n::text), 1000) FROM generate_series({0}, {0} + 249) n"


def test_a_target_that_hangs_for_a_minute_costs_neither_memory_nor_the_connection(
    tables: str, target_db: str, control_db: str, redis_url: str, proxy_to: ProxyTo, tmp_path: Path
) -> None:
    execute(
        tables, f"ALTER DATABASE {psycopg.conninfo.conninfo_to_dict(tables)['dbname']} SET wal_sender_timeout = '5s'"
    )
    door = proxy_to(target_db)
    limits = {"window_bytes": WINDOW, "batch_bytes": WINDOW // 8, "window_batches": 64}
    with running_system(tmp_path, tables, {"reporting": door.url}, control_db, redis_url, limits) as system:
        capture = system.capture()
        system.worker()
        system.until(lambda: execute(target_db, "SELECT to_regclass('items')") != [(None,)], "the table is there")
        with Load(tables):
            system.await_progress(200, 90)
            memory = psutil.Process(capture.process.pid)
            [(sender,)] = execute(tables, SENDERS)
            before = memory.memory_info().rss
            door.stall()
            peak, written, end = before, 0, time.monotonic() + STALL_S
            while time.monotonic() < end:
                if written * 32_000 < WRITTEN:
                    execute(tables, BIG.format(1_000_000 + written))
                    written += 250
                peak = max(peak, memory.memory_info().rss)
                assert execute(tables, SENDERS) == [(sender,)]
            assert written * 32_000 >= WRITTEN
            assert peak - before < MORE_MEMORY, f"{before} grew to {peak}"
            door.restore()
            system.await_progress(written, 150)
        assert execute(tables, SENDERS) == [(sender,)]
        system.assert_same()
    assert capture.text().count("capture_started") == 1


@pytest.mark.parametrize(
    "together",
    [pytest.param(False, id="a transaction each"), pytest.param(True, id="one transaction", marks=pytest.mark.long)],
)
def test_rows_of_a_megabyte_for_a_target_that_stands_still_take_bounded_memory(
    tables: str, target_db: str, control_db: str, redis_url: str, tmp_path: Path, together: bool
) -> None:
    """What is decoded, cut, waiting for the publisher or open: all of it counts. A large transaction comes in pieces of
    16 MB, of which one at a time is received, decoded, encoded and compressed."""
    limits = {"window_bytes": WINDOW, "batch_bytes": WINDOW // 8, "batch_changes": 4000}
    with running_system(tmp_path, tables, {"reporting": target_db}, control_db, redis_url, limits) as system:
        execute(tables, "INSERT INTO items VALUES (1, 'copied', 1, 'x')")
        capture, worker = system.capture(), system.worker()
        system.until(system.loaded, "the rows are copied", 90)
        worker.kill()
        memory = psutil.Process(capture.process.pid)
        before = peak = memory.memory_info().rss
        insert = "INSERT INTO items SELECT {0}, 'big', n, string_agg(md5(random()::text), '') FROM {1} GROUP BY n"
        series = "generate_series({0}, {1}) n, generate_series(1, 32768)"
        first, last = 100, 100 + LARGE
        steps = [(first, last)] if together else [(n, n) for n in range(first, last + 1)]
        for start, end in steps:
            execute(tables, insert.format("n", series.format(start, end)))
            peak = max(peak, memory.memory_info().rss)
        end_at = time.monotonic() + 10
        while time.monotonic() < end_at:
            peak = max(peak, memory.memory_info().rss)
            time.sleep(0.02)
        most = MORE_MEMORY + (4 * PIECE_BYTES if together else 0)
        assert peak - before < most, f"{before >> 20} MB grew to {peak >> 20} MB"
        worker = system.worker()
        system.assert_same()
