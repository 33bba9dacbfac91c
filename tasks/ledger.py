"""The ledger that the configuration means: where it is, who signs it, whom to trust."""

from __future__ import annotations

from pathlib import Path

from connectors.base import Finding
from connectors.ledger.places import opened_anchors
from connectors.ledger.sink import LedgerSink
from worker_sync.core.errors import ConfigError
from worker_sync.core.sections import LEDGER
from worker_sync.core.settings import Settings
from worker_sync.ledger.check import Trust
from worker_sync.ledger.key_slot import PersonalKey
from worker_sync.ledger.keys import KEY_FILE, ensure_key, signer_of
from worker_sync.ledger.note import PROBE, NoteError, Signer, Verifier, trusted
from worker_sync.ledger.personal import Personal, PersonalColumns
from worker_sync.ledger.remote import ProgramSigner, verifier_of


def ledger_url(settings: Settings) -> str:
    """The address of the database that has the ledger."""
    assert settings.control is not None
    return settings.control.reveal()


def personal(settings: Settings) -> Personal | None:
    """What the trails have of personal data; None where nothing is declared."""
    key = personal_key(settings)
    tables = {
        (source, name): PersonalColumns(declared.subject, declared.columns, declared.namespace or name)
        for source, audit in settings.audit.items()
        for name, declared in audit.personal_data.items()
    }
    if key is None or not tables:
        return None
    return Personal(key, tables)


def personal_key(settings: Settings) -> PersonalKey | None:
    """The configured key, whether anything personal is declared or not."""
    key = settings.ledger.personal_key
    return None if key is None else PersonalKey(key.get_secret_value())


def open_ledger(settings: Settings) -> LedgerSink:
    """The ledger as the sink that trails are recorded with; connects on first use."""
    return LedgerSink(LEDGER, settings.database(LEDGER).url.reveal(), personal(settings))


def signing_key(settings: Settings) -> Signer:
    """The configured key. Raises ConfigError with what to do where there is none, Transient for one that a key
    management service keeps, unless `ledger.public_key` says which it is."""
    ledger = settings.ledger
    public = verifier_of(ledger.public_key, ledger.key_name) if ledger.public_key else None
    if ledger.key_command is not None:
        assert public is not None
        return ProgramSigner(ledger.key_command, public)
    if ledger.kms_key is not None:
        from connectors.aws.signer import KmsSigner

        return KmsSigner(ledger.kms_key, ledger.key_name, ledger.kms, public)
    return signer_of(ledger.key.get_secret_value() if ledger.key else None, ledger.key_name, Path(settings.state_dir))


def make_signing_key(settings: Settings) -> bool:
    """Make the key's file where the configuration means one and it is not there; True when it was made now."""
    return _means_file(settings) and ensure_key(Path(settings.state_dir), settings.ledger.origin)


def _means_file(settings: Settings) -> bool:
    return bool(settings.audit) and settings.ledger.key is None and settings.ledger.has_local_key


def signs(settings: Settings) -> Finding:
    """Whether the configured key signs: it is tried. Raises Transient as `signing_key` does."""
    file = Path(settings.state_dir) / KEY_FILE
    if _means_file(settings) and not file.exists():
        return Finding("ledger-key", True, f"init makes it: {file}")
    try:
        key = signing_key(settings)
        key.sign(PROBE)
    except ConfigError as error:
        return Finding("ledger-key", False, error.detail, "correct the ledger section")
    return Finding("ledger-key", True, f"{key} signs as {key.verifier_key}")


def trusted_keys(settings: Settings) -> list[Verifier]:
    """The configured key, and those of `ledger.trusted`, which signed before it. Raises ConfigError, and Transient as
    `signing_key` does."""
    try:
        return trusted([signing_key(settings).verifier_key, *settings.ledger.trusted])
    except NoteError as error:
        raise ConfigError(f"ledger.trusted: {error}") from None


def anchored(settings: Settings) -> list[str]:
    """The notes that stand in the configured anchors. Raises Transient for one that can't be read."""
    with opened_anchors(settings.ledger) as places:
        return [note for place in places for note in place.notes(settings.ledger.origin)]


def trust(settings: Settings) -> Trust:
    """Whom the configuration trusts. Raises Transient as `anchored` does."""
    return Trust(trusted_keys(settings), anchored(settings), settings.ledger.origin)
