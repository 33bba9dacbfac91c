"""What Flower is started with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from worker_sync.composition.flower import options, variables
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import Flower

KNOWN = {"user": "me", "password": SecretStr("s3cret")}


def made(**values: object) -> Flower:
    return Flower.model_validate({"persistent": False, **values})


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_TASKS_COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "flower.example.com", "127.example.com"])
def test_an_address_of_others_needs_a_password_or_a_plain_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"set flower\.user"):
        options(made(), host, 5555)
    assert options(made(**KNOWN), host, 5555)
    assert options(made(allow_anonymous=True), host, 5555)
    monkeypatch.setenv("FLOWER_AUTH", ".*@example.com")
    assert options(made(), host, 5555)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_the_machines_own_address_needs_none(host: str) -> None:
    assert f"--address={host}" in options(made(), host, 5555)


def test_the_password_is_in_the_environment_alone() -> None:
    settings = made(**KNOWN)
    assert variables(settings) == {"FLOWER_BASIC_AUTH": "me:s3cret"}
    assert "s3cret" not in " ".join(options(settings, "127.0.0.1", 5555))


@pytest.mark.parametrize("bad", [{"user": "a:b"}, {"user": "a,b"}, {"password": "a,b"}, {"password": ""}])
def test_what_flower_would_take_for_something_else_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        made(**(KNOWN | bad))


def test_the_history_is_kept_in_a_file_that_can_be_written(tmp_path: Path) -> None:
    kept = made(persistent=True, db=tmp_path / "deep" / "flower", save_every_s=2.5)
    assert set(options(kept, "127.0.0.1", 5555)) >= {
        "--persistent=true",
        f"--db={tmp_path}/deep/flower",
        "--state_save_interval=2500",
    }
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"flower\.db: .* can't be written"):
        options(made(persistent=True, db=tmp_path / "file" / "flower"), "127.0.0.1", 5555)


@pytest.mark.parametrize(("given", "option"), [("watch", "watch"), ("/a/b/", "a/b")])
def test_a_prefix_is_told_without_the_slashes_around_it(given: str, option: str) -> None:
    assert f"--url_prefix={option}" in options(made(url_prefix=given), "127.0.0.1", 5555)
