"""The ledger that the configuration means: where it is, who signs it, whom to trust."""

from __future__ import annotations

from pathlib import Path

from connectors.ledger import anchors
from worker_sync.core.settings import Settings
from worker_sync.ledger.check import Trust
from worker_sync.ledger.keys import Ed25519Signer, signer_of
from worker_sync.ledger.note import Verifier


def ledger_url(settings: Settings) -> str:
    """The address of the database that has the ledger."""
    assert settings.control is not None
    return settings.control.reveal()


def signing_key(settings: Settings) -> Ed25519Signer:
    """The configured key. Raises ConfigError with what to do where there is none."""
    key = settings.ledger.key
    return signer_of(key.get_secret_value() if key else None, settings.ledger.key_name, Path(settings.state_dir))


def trusted_keys(settings: Settings) -> list[Verifier]:
    """The configured key, and those of `ledger.trusted`, which signed before it."""
    return [Verifier.parse(text) for text in (signing_key(settings).verifier_key, *settings.ledger.trusted)]


def trust(settings: Settings) -> Trust:
    """Whom the configuration trusts: its keys, and what stands in its anchors. Raises Transient for an anchor that
    can't be read."""
    ledger = settings.ledger
    notes = [note for directory in ledger.anchors for note in anchors.notes(directory, ledger.origin)]
    return Trust(trusted_keys(settings), notes, ledger.origin)
