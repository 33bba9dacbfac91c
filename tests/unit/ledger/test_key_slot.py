"""Key slots: each configured key opens the one master out of its own slot, and out of no other."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from worker_sync.ledger.envelope import MasterKey, Subject, Unopenable
from worker_sync.ledger.key_slot import PersonalKey

SECRET = "a personal key of 32 or more characters"
KEY, OTHER = PersonalKey(SECRET), PersonalKey("another key of 32 characters, or more")


def hkdf(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, info).derive(secret)


@given(st.text(min_size=32, max_size=80), st.text(min_size=32, max_size=80))
def test_every_key_has_a_slot_of_its_own_that_opens_the_one_master(one: str, other: str) -> None:
    master = MasterKey.generate()
    for text in (one, other):
        wrapped = PersonalKey(text).wrap(master)
        assert PersonalKey(text).unwrap(wrapped).reveal() == master.reveal()
    assert (PersonalKey(one).slot == PersonalKey(other).slot) == (one == other)


def test_masters_differ_and_so_do_two_wrappings_of_one() -> None:
    master = MasterKey.generate()
    assert len(master.reveal()) == 32
    assert MasterKey.generate().reveal() != master.reveal()
    assert KEY.wrap(master) != KEY.wrap(master)


def test_a_slot_is_as_the_format_says() -> None:
    master = MasterKey.generate()
    secret = SECRET.encode()
    assert KEY.slot == hkdf(secret, b"worker-sync ledger personal key slot")[:8].hex()
    assert re.fullmatch("[0-9a-f]{16}", KEY.slot)
    wrapped, place = KEY.wrap(master), f'["slot","{KEY.slot}"]'.encode()
    cipher = AESGCM(hkdf(secret, b"worker-sync ledger personal key"))
    assert cipher.decrypt(wrapped[:12], wrapped[12:], place) == master.reveal()


def test_what_is_damaged_or_anothers_does_not_open() -> None:
    wrapped = KEY.wrap(MasterKey.generate())
    damaged = [(KEY, data) for data in (b"", wrapped[:11], wrapped[:-1], wrapped + b"\0")]
    for key, data in [*damaged, (OTHER, wrapped)]:
        with pytest.raises(Unopenable, match=f"key slot {key.slot}"):
            key.unwrap(data)


def test_any_flipped_bit_is_noticed() -> None:
    wrapped = KEY.wrap(MasterKey.generate())
    for at in range(len(wrapped) * 8):
        data = bytearray(wrapped)
        data[at // 8] ^= 1 << at % 8
        with pytest.raises(Unopenable):
            KEY.unwrap(bytes(data))


def test_what_was_sealed_with_a_key_opens_with_the_next_one() -> None:
    master = MasterKey.generate()
    subject = Subject("s", 1)
    wrapped, slot = master.make(subject), OTHER.wrap(master)
    again = OTHER.unwrap(slot)
    assert again.unwrap(subject, wrapped).subject == subject
    assert again.subject_id("shop", "people", "7") == master.subject_id("shop", "people", "7")


def test_a_key_shows_its_slot_and_nothing_else() -> None:
    assert repr(KEY) == f"PersonalKey({KEY.slot})"
    assert SECRET not in f"{KEY} {KEY!r} {KEY.wrap(MasterKey.generate())!r}"
