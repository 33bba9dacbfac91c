"""The ledger that the configuration means: where it is, who signs it, whom to trust."""

from __future__ import annotations

from pathlib import Path

from connectors.ledger import anchors
from connectors.ledger.sink import LedgerSink
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import LEDGER
from worker_sync.core.settings import Settings
from worker_sync.ledger.check import Trust
from worker_sync.ledger.envelope import PersonalKey
from worker_sync.ledger.keys import Ed25519Signer, signer_of
from worker_sync.ledger.note import NoteError, Verifier, trusted
from worker_sync.ledger.personal import Personal, PersonalColumns


def ledger_url(settings: Settings) -> str:
    """The address of the database that has the ledger."""
    assert settings.control is not None
    return settings.control.reveal()


def personal(settings: Settings) -> Personal | None:
    """What the trails have of personal data; None where nothing is declared."""
    key = settings.ledger.personal_key
    tables = {
        (source, name): PersonalColumns(declared.subject, declared.columns, declared.namespace or name)
        for source, audit in settings.audit.items()
        for name, declared in audit.personal_data.items()
    }
    if key is None or not tables:
        return None
    return Personal(PersonalKey(key.get_secret_value()), tables)


def open_ledger(settings: Settings) -> LedgerSink:
    """The ledger as the sink that trails are recorded with; connects on first use."""
    return LedgerSink(LEDGER, settings.database(LEDGER).url.reveal(), personal(settings))


def signing_key(settings: Settings) -> Ed25519Signer:
    """The configured key. Raises ConfigError with what to do where there is none."""
    key = settings.ledger.key
    return signer_of(key.get_secret_value() if key else None, settings.ledger.key_name, Path(settings.state_dir))


def trusted_keys(settings: Settings) -> list[Verifier]:
    """The configured key, and those of `ledger.trusted`, which signed before it. Raises ConfigError."""
    try:
        return trusted([signing_key(settings).verifier_key, *settings.ledger.trusted])
    except NoteError as error:
        raise ConfigError(f"ledger.trusted: {error}") from None


def anchored(settings: Settings) -> list[str]:
    """The notes that stand in the configured anchors. Raises Transient for one that can't be read."""
    ledger = settings.ledger
    return [note for directory in ledger.anchors for note in anchors.notes(directory, ledger.origin)]


def trust(settings: Settings) -> Trust:
    """Whom the configuration trusts. Raises Transient as `anchored` does."""
    return Trust(trusted_keys(settings), anchored(settings), settings.ledger.origin)
