"""Checks an evidence pack with public keys alone: its signature, every file, then the export in it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from worker_sync.core.errors import ConfigError
from worker_sync.ledger import evidence
from worker_sync.ledger.entries import Progress
from worker_sync.ledger.evidence import EXPORT, MANIFEST, NOTE, UNLISTED, Manifest, is_plain, printable
from worker_sync.ledger.export import Damaged
from worker_sync.ledger.findings import Finding, Findings, Kind, Report, exit_code
from worker_sync.ledger.note import NoteError, Untrusted, Verifier, open_note
from worker_sync.ledger.verify import Trust, verify


class Checked(msgspec.Struct):
    """The outcome: what became of the pack since it was signed (`findings`, `counts`), and what its export says.

    `manifest` is None where it can't be read; then, and where the pack has no export, or a file that is a link or a
    pipe, so is `export`. `exit_code` is that of the pack's findings, or else that of the export's report.
    """

    manifest: Manifest | None
    signers: list[str]
    findings: list[Finding]
    counts: dict[Kind, int]
    export: Report | None
    exit_code: int


def check_pack(
    directory: Path, keys: Sequence[Verifier], anchors: Sequence[str] = (), progress: Progress | None = None
) -> Checked:
    """Check a pack. `keys` and `anchors` are from elsewhere: nothing of the pack is trusted.

    Reads every file twice at most, in constant memory but for a report of what is wrong. Raises ConfigError for what
    is no directory, OSError for a file that can't be read.
    """
    if not directory.is_dir():
        raise ConfigError(f"there is no evidence pack {directory}")
    return _PackCheck(directory, keys).run(anchors, progress)


class _PackCheck:
    def __init__(self, directory: Path, keys: Sequence[Verifier]) -> None:
        self._directory = directory
        self._keys = keys
        self._findings = Findings()
        self._signers: list[str] = []
        self._there = evidence.files_in(directory)
        self._strange = {name for name in self._there if not is_plain(directory / name)}

    def run(self, anchors: Sequence[str], progress: Progress | None) -> Checked:
        data = self._read(MANIFEST)
        stated = self._open_note()
        manifest = None if data is None else self._parse(data)
        if data is not None and stated is not None:
            self._compare(data, manifest, *stated)
        report = None
        if manifest is not None:
            self._check_files(manifest)
            report = self._verify_export(Trust(self._keys, anchors, manifest.origin), manifest, progress)
        code = exit_code(self._findings.counts) or (report.exit_code if report else 0)
        return Checked(manifest, self._signers, self._findings.found, self._findings.counts, report, code)

    def _verify_export(self, trust: Trust, manifest: Manifest, progress: Progress | None) -> Report | None:
        if self._strange:
            return None
        if not (self._directory / EXPORT).is_dir():
            self._findings.add(Kind.MISSING, f"{EXPORT}: the directory is not there")
            return None
        return verify(self._directory / EXPORT, trust, manifest.span, progress)

    def _open_note(self) -> tuple[str, str] | None:
        """The log and the manifest's hash that a trusted key signed; None, and a finding, where none did."""
        note = self._read(NOTE)
        if note is None:
            return None
        try:
            # What is no text becomes lone surrogates, which no note has.
            opened = open_note(note.decode(errors="surrogateescape"), self._keys)
        except Untrusted as error:
            self._findings.add(Kind.UNSIGNED, f"{NOTE}: {error}")
            return None
        except NoteError as error:
            self._findings.add(Kind.ALTERED, f"{NOTE}: {error}")
            return None
        self._signers = [f"{signature.name}+{signature.key_id.hex()}" for signature in opened.verified]
        stated = evidence.read_statement(opened.text)
        if stated is None:
            self._findings.add(Kind.ALTERED, f"{NOTE}: it is signed, but states no evidence pack")
        return stated

    def _compare(self, data: bytes, manifest: Manifest | None, origin: str, digest: str) -> None:
        if digest != sha256(data).hexdigest():
            self._findings.add(Kind.ALTERED, f"{MANIFEST}: it is not the one that was signed")
        elif manifest is not None and manifest.origin != origin:
            self._findings.add(Kind.ALTERED, f"{NOTE}: it names another log than {MANIFEST}")

    def _parse(self, data: bytes) -> Manifest | None:
        try:
            return Manifest.from_bytes(data)
        except Damaged as error:
            self._findings.add(Kind.ALTERED, f"{MANIFEST}: {error}")
            return None

    def _check_files(self, manifest: Manifest) -> None:
        there = set(self._there)
        for name, listed in sorted(manifest.files.items()):
            if name not in there:
                self._findings.add(Kind.MISSING, f"{printable(name)}: the file is not there")
            elif name in self._strange or evidence.listed(self._directory / name) != listed:
                self._findings.add(Kind.ALTERED, f"{printable(name)}: it is not the file that was signed")
        for name in sorted(there - manifest.files.keys() - UNLISTED):
            self._findings.add(Kind.INSERTED, f"{printable(name)}: the manifest has no such file")

    def _read(self, name: str) -> bytes | None:
        """The manifest or its note; None, and a finding, where it isn't there."""
        path = self._directory / name
        if is_plain(path):
            return path.read_bytes()
        if name in self._strange:
            self._findings.add(Kind.ALTERED, f"{name}: it is no file of its own")
        else:
            self._findings.add(Kind.MISSING, f"{name}: the file is not there")
        return None
