"""Signs of life: a small file per process, written where its main loop makes progress, read by `worker-sync probe`.

Neither the broker nor the control store has a part in it: when they are away, nothing is mended by a restart. Standard
library only, because a probe runs every few seconds.

A sign is one line: process id, time of the system's monotonic clock, seconds that the process may now be silent, and
whether it is ready for work. The files are in WORKER_SYNC_RUN_DIR, or a directory of the user's in the temporary
directory, in a folder per configuration file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

RUN_DIR: Final = "WORKER_SYNC_RUN_DIR"
CONFIG: Final = "WORKER_SYNC_CONFIG"
#: Seconds between two signs of a loop that runs more often.
EVERY_S: Final = 1.0
#: Seconds of silence after which a process counts as hung, unless the probe says otherwise.
MAX_AGE_S: Final = 30.0

ROLES: Final = ("worker", "capture", "beat", "exporter")


class Alive:
    """The signs of one process. `name` tells several of one role apart."""

    def __init__(self, role: str, name: str = "", directory: Path | None = None) -> None:
        self._path = (directory or run_directory(os.environ.get(CONFIG))) / _file_name(role, name)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(self._path.parent)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(self._path.parent, error) from None
        self._pid = os.getpid()
        self._last = 0.0
        self._said: tuple[float, bool] | None = None

    def say(self, *, ready: bool = True, silent_s: float = 0.0) -> None:
        """We are here; `silent_s`: for so long this may stay the last word. Cheap, so say it often."""
        now = time.monotonic()
        if self._said == (silent_s, ready) and now - self._last < EVERY_S:
            return
        self._said, self._last = (silent_s, ready), now
        # One write of one length: a reader sees the old line or the new one.
        os.pwrite(self._file, f"{self._pid:010d} {now:017.6f} {silent_s:010.1f} {ready:d}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The process ends in order."""
        if self._file >= 0 and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = -1


class Pulse(threading.Event):
    """An event to stop by whose every question, from the thread that made it, is a sign of life."""

    def __init__(self, alive: Alive) -> None:
        super().__init__()
        self._alive = alive
        self._thread = threading.get_ident()

    def is_set(self) -> bool:
        self._beat()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._beat(timeout or 0.0)
        return super().wait(timeout)

    def _beat(self, silent_s: float = 0.0) -> None:
        if threading.get_ident() == self._thread:
            self._alive.say(silent_s=0.0 if silent_s < EVERY_S else silent_s)


class Sign(NamedTuple):
    """What a file says: `age_s` seconds ago process `pid` was there."""

    who: str
    pid: int
    age_s: float
    silent_s: float
    ready: bool

    def problem(self, max_age_s: float, *, ready: bool) -> str:
        """Why the process is not well; empty when it is."""
        if not 0 <= self.age_s <= max(max_age_s, self.silent_s):
            return f"{self.who} (process {self.pid}) has been silent for {self.age_s:.1f} s"
        if ready and not self.ready:
            return f"{self.who} (process {self.pid}) is not ready for work"
        return ""


def probe(role: str | None, name: str | None, max_age_s: float, directory: Path, *, ready: bool = False) -> list[str]:
    """Why the processes of `role` (None: of any) on this machine are not well; empty when all of them are.

    A file whose process is gone says nothing. That no process is there is a reason too.
    """
    signs = [sign for sign in read(directory) if _is(sign.who, role, name) and _exists(sign.pid)]
    if not signs:
        return [f"no {role or 'process'}{f' {name}' if name else ''} of this configuration runs here"]
    return [problem for sign in signs if (problem := sign.problem(max_age_s, ready=ready))]


def read(directory: Path) -> list[Sign]:
    """All signs in the directory."""
    if not directory.is_dir():
        return []
    found = [_parse(path) for path in sorted(directory.iterdir())]
    return [sign for sign in found if sign is not None]


def run_directory(config: str | None) -> Path:
    """Where the signs of the processes with this configuration file are."""
    temporary = Path(os.environ.get("TMPDIR") or "/tmp") / f"worker-sync-{os.getuid()}"  # its owner is checked
    base = Path(os.environ.get(RUN_DIR) or temporary)
    path = str(Path(config).absolute()) if config else ""
    return base / hashlib.sha256(path.encode()).hexdigest()[:12]


def _parse(path: Path) -> Sign | None:
    try:
        pid, at, silent_s, ready = path.read_text().split()
        return Sign(path.name, int(pid), time.monotonic() - float(at), float(silent_s), ready == "1")
    except (OSError, ValueError):
        return None  # of another program, or just made


def _file_name(role: str, name: str) -> str:
    return f"{role}.{re.sub(r'[^A-Za-z0-9_-]', '_', name)}" if name else role


def _is(who: str, role: str | None, name: str | None) -> bool:
    if name is not None:
        return who == _file_name(role or "", name) or (role is None and who.partition(".")[2] == name)
    return role is None or who.partition(".")[0] == role


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _unusable(directory: Path, error: OSError) -> Exception:
    # Imported here: a probe needs no errors.
    from worker_sync.core.errors import ConfigError

    return ConfigError(f"signs of life can't be written to {directory}: {error}; set {RUN_DIR} to a directory of yours")


def _check_owner(directory: Path) -> None:
    """In a directory that everyone may write to, another user could have been first."""
    for path in (directory, directory.parent):
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or (path == directory and found.st_uid != os.getuid()):
            raise PermissionError(f"{path} is another user's")
