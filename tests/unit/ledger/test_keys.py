"""Signing keys are read from where they are kept, and show nowhere else."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from tests.unit.ledger.test_note import PETER, PETERS_KEY
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.keys import (
    Ed25519Signer,
    generate,
    is_open,
    signer_from_environment,
    signer_from_file,
    signer_from_text,
    write_key,
)
from worker_sync.ledger.note import Signer, Verifier, open_note, sign

SECRET = PETERS_KEY.rpartition("+")[2]


def pem(encryption: KeySerializationEncryption | None = None) -> str:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def test_the_published_private_key_has_the_published_public_one() -> None:
    assert signer_from_text(f"{PETERS_KEY}\n").verifier_key == PETER


def test_mangled_private_keys_are_refused() -> None:
    parts = [PETERS_KEY[:at] for at in range(len(PETERS_KEY))] + [PETERS_KEY[at:] for at in range(1, len(PETERS_KEY))]
    shifted = [f"{PETERS_KEY[:at]}{chr(ord(c) + 1)}{PETERS_KEY[at + 1 :]}" for at, c in enumerate(PETERS_KEY)]
    for text in [*parts, *shifted]:
        with pytest.raises(ConfigError):
            signer_from_text(text)


def test_a_key_in_pem_takes_its_name_from_the_caller() -> None:
    signer = signer_from_text(pem(), "shop")
    assert signer.name == "shop"
    with pytest.raises(ConfigError, match="needs a name"):
        signer_from_text(pem())


def test_a_key_by_another_name_is_refused() -> None:
    assert signer_from_text(PETERS_KEY, "PeterNeumann").name == "PeterNeumann"
    with pytest.raises(ConfigError, match="is named PeterNeumann, not shop"):
        signer_from_text(PETERS_KEY, "shop")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2028b", "a\nb", "\ud800"])
def test_a_name_that_no_note_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        generate(name)


@pytest.mark.parametrize(
    "text",
    [
        pem(BestAvailableEncryption(b"password")),
        generate_ec(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "not a key",
        "\udcff",
    ],
)
def test_what_is_no_plain_ed25519_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not a signing key|not for Ed25519") as raised:
        signer_from_text(text, "shop")
    assert raised.value.__cause__ is None
    assert text.strip() not in str(raised.value) or text == "not a key"


def test_a_generated_key_signs_and_reads_back() -> None:
    made = generate("schlüssel.example/1")
    again = signer_from_text(made.reveal())
    assert again.verifier_key == made.verifier_key
    assert open_note(sign("text\n", [again]), [Verifier.parse(made.verifier_key)]).verified
    assert generate("a").reveal() != generate("a").reveal()


def test_a_written_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    path, made = tmp_path / "key", generate("schlüssel.example/1")
    write_key(path, made)
    assert path.stat().st_mode & 0o777 == 0o600
    assert signer_from_file(path).verifier_key == made.verifier_key
    with pytest.raises(ConfigError, match="File exists"):
        write_key(path, generate("b"))
    assert signer_from_file(path).verifier_key == made.verifier_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(PETERS_KEY)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to others") as raised:
        signer_from_file(path)
    assert f"chmod 600 {path}" in str(raised.value)


ROOT, SELF, OTHER = 0, 1000, 1001


@pytest.mark.parametrize(
    ("owner", "user", "accepted"),
    [
        (SELF, SELF, {0o400, 0o600, 0o700}),
        (ROOT, ROOT, {0o400, 0o600, 0o700}),
        (OTHER, SELF, {0o400, 0o600, 0o700}),
        # As a secret that is mounted for a group is.
        (ROOT, SELF, {0o400, 0o600, 0o700, 0o440, 0o640}),
    ],
)
def test_a_group_may_read_what_root_hands_to_it_and_nothing_else(owner: int, user: int, accepted: set[int]) -> None:
    modes = (0o400, 0o600, 0o700, 0o440, 0o640, 0o660, 0o650, 0o460, 0o644, 0o604, 0o641, 0o444)
    assert {mode for mode in modes if not is_open(mode, owner, user)} == accepted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file to others")
def test_a_secret_mounted_for_a_group_is_read_by_who_is_not_root(tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        path = directory / "key"
        path.write_text(PETERS_KEY)
        os.chown(path, 0, SELF)
        path.chmod(0o440)
        with as_user(OTHER, SELF):
            assert signer_from_file(path).verifier_key == PETER
        path.chmod(0o460)
        with as_user(OTHER, SELF), pytest.raises(ConfigError, match="open to others"):
            signer_from_file(path)
    finally:
        shutil.rmtree(directory)


@contextmanager
def as_user(user: int, group: int) -> Iterator[None]:
    """Be somebody else, for the files."""
    groups, own = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own)
        os.setgroups(groups)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        signer_from_file(tmp_path / "key")
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match="is no signing key"):
        signer_from_file(tmp_path / "key")


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_KEY", PETERS_KEY)
    assert signer_from_environment("LEDGER_KEY").verifier_key == PETER
    monkeypatch.setenv("LEDGER_KEY", "")
    with pytest.raises(ConfigError, match="LEDGER_KEY holds no signing key"):
        signer_from_environment("LEDGER_KEY")


def test_a_private_key_shows_nowhere() -> None:
    signer = signer_from_text(PETERS_KEY)
    shown = f"{signer} {signer!r} {[signer]} {vars(type(signer))}"
    assert SECRET not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be pickled or copied"):
            leak(signer)


def test_an_error_about_a_key_does_not_show_it() -> None:
    with pytest.raises(ConfigError) as raised:
        signer_from_text(PETERS_KEY.replace("c74f20a3", "c74f20a4"))
    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_key_in_memory_is_a_signer() -> None:
    signer: Signer = generate("a")
    assert isinstance(signer, Ed25519Signer)
    assert len(signer.key_id) == 4
