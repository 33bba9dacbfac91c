"""The supervisor on real processes: restarts, orderly stops, no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.eventually import eventually
from worker_sync.embedded.processes import Process
from worker_sync.supervisor import Spec, Supervisor

#: A child that says that it is ready, and says so again when it is asked to end.
POLITE = """
import os, signal, sys
def end(*_):
    os.write(1, b"bye\\n")  # print could be interrupted by itself
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"ready\\n")
signal.pause()
"""


class Heard:
    """What the children and the supervisor said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, line: str) -> None:
        with self._changed:
            self.lines.append((name, line))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[tuple[str, str]]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.lines), timeout=20), self.lines

    def count(self, name: str, text: str) -> int:
        return sum(line == (name, text) for line in self.lines)


def python(name: str, code: str, stage: int = 0, **more: object) -> Spec:
    return Spec(name, [sys.executable, "-c", textwrap.dedent(code)], stage, **more)  # type: ignore[arg-type]


@contextmanager
def running(specs: list[Spec], heard: Heard) -> Iterator[tuple[Supervisor, list[int]]]:
    supervisor = Supervisor(specs, heard)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
    thread.start()
    try:
        yield supervisor, codes
    finally:
        supervisor.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_children_stop_in_the_order_of_their_stages() -> None:
    heard = Heard()
    with running([python("late", POLITE, 1), python("early", POLITE, 0)], heard) as (_, codes):
        heard.wait_for(lambda _: heard.count("late", "ready") + heard.count("early", "ready") == 2)
    assert codes == [0]
    assert [name for name, line in heard.lines if line == "bye"] == ["early", "late"]


def test_a_killed_child_starts_again() -> None:
    heard = Heard()
    with running([python("one", POLITE)], heard) as (supervisor, _):
        heard.wait_for(lambda _: heard.count("one", "ready") == 1)
        os.kill(supervisor.pids["one"], signal.SIGKILL)
        heard.wait_for(lambda _: heard.count("one", "ready") == 2)
    assert any("SIGKILL" in line for name, line in heard.lines if name == "up")


def test_it_ends_with_1_when_every_essential_child_stopped_for_good() -> None:
    heard = Heard()
    halted = python("capture", "print('slot-missing'); raise SystemExit(1)", essential=True, final=frozenset({1}))
    code = Supervisor([halted, python("worker", POLITE, 1)], heard).run()
    assert code == 1
    assert ("capture", "slot-missing") in heard.lines
    assert any(name == "up" and "stopped for good" in line for name, line in heard.lines)


def test_a_child_that_does_not_listen_is_killed_in_time() -> None:
    heard = Heard()
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    with running([python("deaf", deaf, stop_s=0.2)], heard) as (_, codes):
        heard.wait_for(lambda _: heard.count("deaf", "ready") == 1)
    assert codes == [0]


def test_a_second_stop_does_not_wait_for_those_that_do_not_listen() -> None:
    heard = Heard()
    deaf = """
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"no\\n"))
        os.write(1, b"ready\\n")
        while True:
            signal.pause()
    """
    with running([python("deaf", deaf, stop_s=600)], heard) as (supervisor, _):
        heard.wait_for(lambda _: heard.count("deaf", "ready") == 1)
        supervisor.stop()
        heard.wait_for(lambda _: heard.count("deaf", "no") == 1)


def test_the_last_words_of_a_child_are_heard_even_without_a_line_break() -> None:
    heard = Heard()
    Supervisor([python("one", "import sys; sys.stdout.write('a\\nb')", final=frozenset({0}))], heard).run()
    assert [line for name, line in heard.lines if name == "one"] == ["a", "b"]


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    child = f"import os, pathlib, signal; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); signal.pause()"
    code = f"""
        import sys
        from worker_sync.supervisor import Spec, Supervisor
        Supervisor([Spec("child", [sys.executable, "-c", {child!r}], 0)], print).run()
    """
    supervisor = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    try:
        eventually(lambda: pids.exists() and pids.read_text() != "")
        process = Process.find(int(pids.read_text()))
        assert process is not None
    finally:
        supervisor.kill()
        supervisor.wait()
    assert process.wait(10)


@pytest.mark.parametrize("code", [0, 3, 70])
def test_only_final_exit_codes_end_a_child_for_good(code: int) -> None:
    heard = Heard()
    spec = python("one", f"print('run', flush=True); raise SystemExit({code})", final=frozenset({1, 2}))
    with running([spec], heard):
        heard.wait_for(lambda _: heard.count("one", "run") == 2)
