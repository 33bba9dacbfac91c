"""A key that is elsewhere signs through a program, and nothing is believed that it does not verify."""

from __future__ import annotations

import copy
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fixtures.eventually import eventually
from tests.unit.ledger.ledgers import NEW, OLD, verifier
from worker_sync.core.errors import ConfigError, Transient
from worker_sync.ledger.note import PROBE, NoteError, Signer, open_note, sign, split
from worker_sync.ledger.remote import ProgramSigner, verifier_of

#: A program that signs standard input with the key of `OLD`, as a module of a hardware key would.
SIGNS = """
import sys
from base64 import b64encode
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
signature = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).sign(sys.stdin.buffer.read())
sys.stdout.buffer.write({form})
"""
RAW, BASE64 = "signature", "b64encode(signature) + b'\\n'"
PEM = Ed25519PublicKey.from_public_bytes(OLD.public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signs_with_old(directory: Path, form: str = RAW) -> list[str]:
    """The command of a program that signs with the key of `OLD`."""
    program = directory / "sign-with-hsm.py"
    program.write_text(SIGNS.format(form=form))
    return [sys.executable, str(program)]


def shell(script: str, timeout_s: float = 10.0) -> ProgramSigner:
    return ProgramSigner(["sh", "-c", script, "a-secret-argument"], verifier(OLD), timeout_s)


@pytest.mark.parametrize("form", [RAW, BASE64])
def test_a_program_signs_notes(form: str, tmp_path: Path) -> None:
    signer: Signer = ProgramSigner(signs_with_old(tmp_path, form), verifier(OLD))
    assert (signer.name, signer.key_id, signer.verifier_key) == (OLD.name, OLD.key_id, OLD.verifier_key)
    assert signer.public_key == OLD.public_key
    note = sign("text\n", [signer, NEW])
    assert note == sign("text\n", [OLD, NEW])
    assert len(open_note(note, [verifier(OLD), verifier(NEW)]).verified) == 2


def test_a_signature_of_another_key_is_never_given_out(tmp_path: Path) -> None:
    signer = ProgramSigner(signs_with_old(tmp_path), verifier(NEW))
    with pytest.raises(ConfigError, match=r"no signature of .*see ledger\.public_key"):
        signer.sign(b"message")


def test_a_signature_of_another_message_is_never_given_out() -> None:
    encoded = b64encode(OLD.sign(b"another message")).decode()
    with pytest.raises(ConfigError, match="no signature of"):
        shell(f"cat >/dev/null; echo {encoded}").sign(b"message")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat >/dev/null; echo no; exit 3", "exit code 3"),
        ("exit 1", "exit code 1"),
        ("cat >/dev/null", "wrote 0 bytes"),
        ("cat >/dev/null; echo not-a-signature", "wrote 16 bytes"),
        ("cat >/dev/null; head -c 63 /dev/zero", "wrote 63 bytes"),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_a_program_that_gives_no_signature_is_tried_again_later(script: str, said: str) -> None:
    with pytest.raises(Transient, match=said) as raised:
        shell(script).sign(b"message " * 100_000)
    assert "the program sh" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    begun, started = time.monotonic(), tmp_path / "started"
    with pytest.raises(Transient, match=r"more than 0\.5 seconds"):
        shell(f"sleep 600 & echo $! > {started}; wait", timeout_s=0.5).sign(b"message")
    assert time.monotonic() - begun < 60
    eventually(lambda: not is_running(int(started.read_text())), 10, "what the program started has ended")


def is_running(pid: int) -> bool:
    try:
        # Its parent is gone, and whoever has it now may not have waited for it yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_is_not_there_is_said() -> None:
    with pytest.raises(Transient, match=r"the program /no/such/program can't be run: No such file"):
        ProgramSigner(["/no/such/program"], verifier(OLD)).sign(b"message")


def test_what_a_key_is_tried_with_is_no_note() -> None:
    with pytest.raises(NoteError):
        split(f"{PROBE.decode()}\n— {OLD.name} {b64encode(OLD.key_id + OLD.sign(PROBE)).decode()}\n")
    assert not PROBE.endswith(b"\n")


def test_a_public_key_is_a_verifier_key_or_pem_with_a_name() -> None:
    for text, name in ((OLD.verifier_key, None), (f" {OLD.verifier_key}\n", OLD.name), (PEM.decode(), OLD.name)):
        assert str(verifier_of(text, name)) == OLD.verifier_key


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (OLD.verifier_key, "other", r"is named ledger\.example/shop, not other"),
        (OLD.verifier_key[:-4], None, r"ledger\.public_key: .*Ed25519|ledger\.public_key: "),
        (PEM.decode(), None, "set ledger.key_name"),
        (PEM.decode(), "a b", "no spaces"),
        (PEM.decode().replace("M", "N"), "shop", "no public key in PEM|not for Ed25519"),
        ("nonsense", "shop", "not a verifier key"),
        (
            generate_ec(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode(),
            "shop",
            "not for Ed25519",
        ),
    ],
)
def test_what_is_no_public_key_is_refused(text: str, name: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        verifier_of(text, name)


def test_a_signer_shows_its_program_and_not_its_arguments() -> None:
    signer = shell("exit 0")
    assert (str(signer), repr(signer)) == ("the program sh", "ProgramSigner(the program sh)")
    assert str(copy.copy(signer)) == str(signer), "there is no secret in it"
