"""What a process may use is its container's limit, or all that the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker_sync.core import usage
from worker_sync.core.usage import usage as used

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "memory", "cores"),
    [
        ({}, MACHINE_BYTES, CORES),
        ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, MACHINE_BYTES, CORES),
        ({"memory.max": "1048576\n", "cpu.max": "50000 100000\n"}, 1048576, 0.5),
        (
            {
                "memory/memory.limit_in_bytes": "1048576\n",
                "cpu/cpu.cfs_quota_us": "25000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            1048576,
            0.25,
        ),
        ({"memory/memory.limit_in_bytes": f"{1 << 62}\n", "cpu/cpu.cfs_quota_us": "-1\n"}, MACHINE_BYTES, CORES),
    ],
    ids=["no groups", "version 2, no limits", "version 2", "version 1", "version 1, no limits"],
)
def test_limits_are_those_of_the_control_group(
    files: dict[str, str], memory: int, cores: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(usage, "_CGROUP", tmp_path)
    found = used()
    assert (found["memory_limit_bytes"], found["cpu_cores"]) == (memory, cores)


def test_open_files_memory_and_time_are_this_processs_own(tmp_path: Path) -> None:
    before = used()
    with (tmp_path / "file").open("w"):
        assert used()["open_files"] == before["open_files"] + 1
    assert 1_000_000 < before["memory_bytes"] < MACHINE_BYTES
    assert used()["cpu_s"] >= before["cpu_s"] > 0


def test_room_is_known_of_a_directory_that_is_there(tmp_path: Path) -> None:
    assert 0 < used(tmp_path)["disk_free_bytes"] <= used(tmp_path)["disk_bytes"]
    assert "disk_bytes" not in used(tmp_path / "none")
