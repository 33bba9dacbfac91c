"""Key slots: the ledger's master is wrapped once for each configured key that opens it, as LUKS does.

To change the configured key is to add a slot and to remove another one. The master stays, and with it every subject's
key and index. docs/reference/ledger-format.md has the exact bytes.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker_sync.ledger.envelope import MasterKey, Unopenable, derived

_NONCE: Final = 12
#: Bytes of a slot's id.
_ID: Final = 8


class PersonalKey:
    """The configured key, `ledger.personal_key`. Its text shows nowhere."""

    def __init__(self, text: str) -> None:
        self._secret = text.encode()

    def __repr__(self) -> str:
        return f"PersonalKey({self.slot})"

    @cached_property
    def slot(self) -> str:
        """The id of its slot, the same in every process and ledger. Who lacks the key learns nothing of it."""
        return derived(self._secret, b"worker-sync ledger personal key slot")[:_ID].hex()

    def wrap(self, master: MasterKey) -> bytes:
        """What this key's slot holds of a master."""
        nonce = os.urandom(_NONCE)
        return nonce + self._wrapping.encrypt(nonce, master.reveal(), self._place)

    def unwrap(self, wrapped: bytes) -> MasterKey:
        """The master. Raises Unopenable for what was altered, or is another slot's."""
        try:
            return MasterKey(self._wrapping.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], self._place))
        except (InvalidTag, ValueError) as error:
            raise Unopenable(f"key slot {self.slot}") from error

    @cached_property
    def _wrapping(self) -> AESGCM:
        return AESGCM(derived(self._secret, b"worker-sync ledger personal key"))

    @property
    def _place(self) -> bytes:
        return msgspec.json.encode(["slot", self.slot])
