"""What this process takes of its machine. Cheap: a few small files of the kernel's. What can't be known is left out."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path
from typing import Any, Final

from worker_sync.core import spans

_CGROUP: Final = Path("/sys/fs/cgroup")
#: Version 2, then version 1.
_MEMORY_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")


def usage(state_dir: Path | None = None) -> dict[str, Any]:
    """Seconds of CPU, bytes of memory, open files and their limits, spans if any are recorded; with `state_dir` also
    the room on its disk."""
    times = os.times()
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "cpu_s": times.user + times.system,
        "cpu_cores": _cores(_CGROUP),
        "memory_limit_bytes": _memory_limit(_CGROUP),
        "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    with contextlib.suppress(OSError):
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        found["memory_bytes"] = resident * os.sysconf("SC_PAGE_SIZE")
        found["open_files"] = len(list(Path("/proc/self/fd").iterdir()))
    found |= {f"spans_{outcome}": count for outcome, count in spans.counts().items()}
    return found | _room(state_dir)


def _room(directory: Path | None) -> dict[str, int]:
    if directory is None or not directory.is_dir():
        return {}
    try:
        disk = os.statvfs(directory)
    except OSError:
        return {}
    return {"disk_free_bytes": disk.f_bavail * disk.f_frsize, "disk_bytes": disk.f_blocks * disk.f_frsize}


def _memory_limit(cgroup: Path) -> int:
    """The container's limit, or all that the machine has."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits += [int(text) for name in _MEMORY_LIMITS if (text := _read(cgroup / name)).isdigit()]
    return min(limits)


def _cores(cgroup: Path) -> float:
    """How many cores the process and its neighbours in the container may use together."""
    cores = float(len(os.sched_getaffinity(0)))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
    return min(cores, int(quota) / int(period)) if quota.isdigit() and period.isdigit() else cores


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
