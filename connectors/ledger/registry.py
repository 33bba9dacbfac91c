"""The ledger's own record of which keys sign it: entries of kind ``key``.

They tell people when a key came and went. Nothing trusts a key because it stands here: who can write the ledger can
write that, too. Trust comes from keys that the verifier has from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from connectors.ledger.appender import Appender
from connectors.ledger.filters import Wanted
from connectors.ledger.reader import LedgerReader
from connectors.ledger.session import Session
from connectors.postgres.conn import redact
from connectors.postgres.errors import translated
from worker_sync.core.errors import ConfigError
from worker_sync.ledger.note import PROBE, Signer
from worker_sync.ledger.prepared import prepared

KEY_KIND: Final = "key"
ADDED: Final = "added"
RETIRED: Final = "retired"


class Registered(msgspec.Struct, frozen=True):
    """A key as the ledger says: numbers of the entries that added and retired it."""

    verifier_key: str
    added: int
    retired: int | None = None


def registered(reader: LedgerReader) -> list[Registered]:
    """The keys in the order in which they came."""
    found: dict[str, Registered] = {}
    for number, text in reader.find(Wanted(kind=KEY_KIND)):
        entry = json.loads(text)
        key = str(entry.get("verifier_key"))
        if entry.get("action") == RETIRED and key in found:
            found[key] = Registered(key, found[key].added, number)
        elif entry.get("action") == ADDED:
            found[key] = Registered(key, number)
    return list(found.values())


def add_new(connection: Any, reader: LedgerReader, signers: Sequence[Signer]) -> tuple[str, ...]:
    """Enter keys that are not there, or were retired, and that can sign. Raises psycopg.Error, and what LedgerReader
    and signers raise."""
    active = {key.verifier_key for key in registered(reader) if key.retired is None}
    adding = [signer for signer in signers if signer.verifier_key not in active]
    for signer in adding:
        signer.sign(PROBE)
    new = tuple(signer.verifier_key for signer in adding)
    if new:
        _append(connection, ADDED, new)
    return new


def retire(url: str, verifier_key: str) -> None:
    """Enter that a key signs no more. Raises ConfigError for one that the ledger doesn't know as active."""
    with LedgerReader(url) as reader:
        if verifier_key not in {key.verifier_key for key in registered(reader) if key.retired is None}:
            raise ConfigError(f"the ledger knows no active key {verifier_key}; see: worker-sync audit keys")
    session = Session(url)
    try:
        with translated(redact(url)):
            _append(session.connection(), RETIRED, [verifier_key])
    finally:
        session.close()


def _append(connection: Any, action: Literal["added", "retired"], keys: Sequence[str]) -> None:
    entries = [prepared({"kind": KEY_KIND, "action": action, "verifier_key": key}) for key in keys]
    with connection.transaction():
        Appender().append(connection, entries)
