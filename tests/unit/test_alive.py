"""Signs of life and what a probe makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fixtures.eventually import eventually
from worker_sync.core import alive
from worker_sync.core.alive import Alive, Pulse, probe
from worker_sync.core.errors import ConfigError


def test_a_process_that_speaks_is_alive_and_one_that_is_silent_is_not(tmp_path: Path) -> None:
    with Alive("worker", "w1", tmp_path) as one:
        one.say()
        assert probe("worker", None, 30, tmp_path) == []
        [problem] = eventually(lambda: probe("worker", None, 0.05, tmp_path))
        assert "worker.w1" in problem
        assert "silent" in problem
        one.say(silent_s=100)
        assert probe("worker", None, 0.0, tmp_path) == []


def test_that_nobody_is_there_is_no_health(tmp_path: Path) -> None:
    assert probe(None, None, 30, tmp_path / "nothing") == ["no process of this configuration runs here"]
    with Alive("capture", "shop", tmp_path) as one:
        one.say()
        assert probe("worker", None, 30, tmp_path) == ["no worker of this configuration runs here"]
        assert probe("capture", "other", 30, tmp_path) == ["no capture other of this configuration runs here"]
        assert probe("capture", "shop", 30, tmp_path) == probe(None, None, 30, tmp_path) == []
    assert probe("capture", None, 30, tmp_path) != []


def test_the_sign_of_a_process_that_was_killed_hides_nothing_of_the_others(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\nfrom worker_sync.core.alive import Alive\n"
        f"Alive('worker', 'gone', pathlib.Path({str(tmp_path)!r})).say()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "worker.gone").exists()
    assert probe("worker", None, 30, tmp_path) != []
    with Alive("worker", "w2", tmp_path) as one:
        one.say()
        assert probe("worker", None, 30, tmp_path) == []


def test_one_hung_process_of_several_is_noticed(tmp_path: Path) -> None:
    with Alive("worker", "a", tmp_path) as hung, Alive("worker", "b", tmp_path) as well:
        hung.say()
        eventually(lambda: probe("worker", "a", 0.1, tmp_path))
        well.say()
        assert [problem.split()[0] for problem in probe("worker", None, 0.1, tmp_path)] == ["worker.a"]


def test_ready_is_more_than_alive(tmp_path: Path) -> None:
    with Alive("worker", "w", tmp_path) as one:
        one.say(ready=False)
        assert probe("worker", None, 30, tmp_path) == []
        assert "not ready" in probe("worker", None, 30, tmp_path, ready=True)[0]
        one.say(ready=True)
        assert probe("worker", None, 30, tmp_path, ready=True) == []


def test_each_question_of_the_main_loop_is_a_sign_and_other_threads_do_not_count(tmp_path: Path) -> None:
    with Alive("capture", "shop", tmp_path) as one:
        pulse = Pulse(one)
        thread = threading.Thread(target=pulse.is_set)
        thread.start()
        thread.join()
        assert probe("capture", None, 30, tmp_path) != []
        pulse.is_set()
        assert probe("capture", None, 30, tmp_path) == []


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(ConfigError, match=alive.RUN_DIR):
        Alive("worker", "w", tmp_path)


def test_a_probe_imports_next_to_nothing() -> None:
    code = (
        "import sys; from worker_sync.core import probing; probing.main(['worker', '--config', '/no/such/file']); "
        "print({'celery', 'kombu', 'click', 'pydantic', 'yaml', 'psycopg', 'dataclasses'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
