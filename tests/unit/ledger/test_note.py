"""Signed notes as c2sp.org/signed-note and golang.org/x/mod/sumdb/note have them."""

from __future__ import annotations

import pytest

from tests.unit.ledger.ledgers import NEW, OLD, STRANGER, signer, verifier
from worker_sync.ledger.keys import signer_from_text
from worker_sync.ledger.note import (
    BadSignature,
    MalformedNote,
    NoteError,
    Signature,
    Untrusted,
    Verifier,
    open_note,
    sign,
    split,
    trusted,
)

# golang.org/x/mod, sumdb/note/note_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_KEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"

# c2sp.org/signed-note
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def names(signatures: tuple[Signature, ...]) -> list[str]:
    return [signature.name for signature in signatures]


def test_the_example_of_the_specification_opens() -> None:
    opened = open_note(EXAMPLE, trusted([EXAMPLE_KEY]))
    assert opened.text == "This is an example message.\n"
    assert names(opened.verified) == ["example.com/foo"]


def test_a_text_is_signed_as_published() -> None:
    assert sign(TEXT, [signer_from_text(PETERS_KEY)]) == f"{TEXT}\n{BY_PETER}"


def test_unknown_signatures_are_ignored() -> None:
    opened = open_note(f"{TEXT}\n{BY_PETER}{BY_ENOCH}", trusted([PETER]))
    assert (names(opened.verified), names(opened.unverified)) == (["PeterNeumann"], ["EnochRoot"])


def test_both_of_two_known_keys_are_verified() -> None:
    opened = open_note(f"{TEXT}\n{BY_PETER}{BY_ENOCH}", trusted([PETER, ENOCH]))
    assert (names(opened.verified), opened.unverified) == (["PeterNeumann", "EnochRoot"], ())


def test_a_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(Untrusted):
        open_note(f"{TEXT}\n{BY_PETER}{BY_ENOCH}", [])


def test_a_repeated_signature_counts_once() -> None:
    altered = f"{BY_ENOCH[:60]}ABCD{BY_ENOCH[60:]}"
    opened = open_note(f"{TEXT}\n{BY_PETER * 2}{BY_ENOCH * 2}{altered}", trusted([PETER]))
    assert (names(opened.verified), names(opened.unverified)) == (["PeterNeumann"], ["EnochRoot", "EnochRoot"])


@pytest.mark.parametrize(
    "note",
    [
        f"{TEXT}\n{BY_PETER[:60]}ABCD{BY_PETER[60:]}",
        f"{TEXT.replace('answer', 'Answer')}\n{BY_PETER}",
        f"{TEXT}\n{BY_PETER}{BY_PETER[:60]}{'A' if BY_PETER[60] != 'A' else 'B'}{BY_PETER[61:]}",
    ],
)
def test_a_wrong_signature_of_a_known_key_is_an_error(note: str) -> None:
    with pytest.raises(BadSignature, match=r"PeterNeumann\+c74f20a3"):
        open_note(note, trusted([PETER]))


def test_a_key_with_the_same_name_or_the_same_id_alone_is_another_key() -> None:
    misnamed = BY_PETER.replace("PeterNeumann", "CarmenSandiego")
    with pytest.raises(Untrusted):
        open_note(f"{TEXT}\n{misnamed}", trusted([PETER]))
    with pytest.raises(Untrusted):
        open_note(f"{TEXT}\n{BY_PETER.replace('x08g', 'xxxx')}", trusted([PETER]))


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{BY_PETER[:-1]}",
        f"\x01{TEXT}\n{BY_PETER}",
        f"{TEXT}\r\n{BY_PETER}",
        f"\udcff{TEXT}\n{BY_PETER}",
        f"{TEXT}\n{BY_PETER.replace('PeterNeumann', 'Bad Name')}",
        f"{TEXT}\n{BY_PETER.replace('PeterNeumann', 'Bad+Name')}",
        f"{TEXT}\n{BY_PETER}Unexpected line.\n",
        f"{TEXT}\n{BY_PETER.replace('AM=', 'AN=')}",
        f"{TEXT}\n— PeterNeumann x08gow==\n",
        f"{TEXT}\n{BY_PETER * 101}",
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(MalformedNote):
        open_note(note, trusted([PETER]))


def test_the_last_empty_line_ends_the_text() -> None:
    assert split(f"a\n\nb\n\n\n{BY_PETER}")[0] == "a\n\nb\n\n"


@pytest.mark.parametrize("text", ["abc", "", "a\tb\n", "\ud800\n"])
def test_a_text_that_can_not_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(MalformedNote):
        sign(text, [OLD])


def test_a_note_is_signed_by_someone() -> None:
    with pytest.raises(MalformedNote):
        sign(TEXT, [])


def test_a_note_with_two_signers_opens_with_either_key() -> None:
    note = sign(TEXT, [OLD, NEW])
    for known in (OLD, NEW):
        assert names(open_note(note, [verifier(known)]).verified) == [known.name]
    with pytest.raises(Untrusted):
        open_note(note, [verifier(STRANGER)])


@pytest.mark.parametrize("key", [PETER, ENOCH, EXAMPLE_KEY])
def test_a_verifier_key_reads_back(key: str) -> None:
    assert str(Verifier.parse(key)) == key


def test_mangled_verifier_keys_are_refused() -> None:
    parts = [PETER[a:b] for a in range(len(PETER)) for b in range(a, len(PETER) + 1) if b - a < len(PETER)]
    shifted = [f"{PETER[:at]}{chr(ord(PETER[at]) + 1)}{PETER[at + 1 :]}" for at in range(len(PETER))]
    published = [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ]
    for key in [*parts, *shifted, *published]:
        with pytest.raises(NoteError):
            Verifier.parse(key)


def test_a_public_key_can_be_used_under_several_names() -> None:
    assert verifier(signer(1, "a")).key_id != verifier(signer(1, "b")).key_id
