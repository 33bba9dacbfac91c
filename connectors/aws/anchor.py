"""Anchors on S3: an object for each checkpoint, written once and locked against everybody for years.

Deleting an object leaves its versions, and writing to its name adds one. So versions are read, never what is newest:
neither hides what was there first. A locked version can't be removed by whoever has our credentials.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from connectors.aws.client import client, code_of, translated
from connectors.base import Finding
from connectors.ledger.anchors import Anchor, folder_of, is_name, least_name
from worker_sync.core.errors import Transient
from worker_sync.core.ledger_section import S3

#: Objects that are read at the same time.
_READERS: Final = 10
#: Objects that wait to be read.
_AHEAD: Final = 1000
#: Versions in an answer.
_PAGE: Final = 1000
#: A checkpoint is some hundred bytes; what is larger is none, and not read further.
_MAX_BYTES: Final = 65536
#: Seconds that a server may have cut off the end of a lock.
_ROUNDED_S: Final = 1
_NO_LOCK: Final = frozenset({"ObjectLockConfigurationNotFoundError", "InvalidBucketState", "InvalidRequest"})


@dataclass(frozen=True, slots=True)
class _Version:
    key: str
    id: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


class S3Anchor(Anchor):
    """A bucket that keeps versions and locks objects, as `s3://BUCKET` or `s3://BUCKET/PREFIX`."""

    def __init__(self, place: str, settings: S3) -> None:
        self.place = place.rstrip("/")
        self._bucket, _, prefix = self.place.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._mode, self._days = settings.mode.upper(), settings.retention_days
        self._client = client("s3", settings)
        self._locks = False

    def names(self, origin: str, first: int = 0) -> list[str]:
        with translated(self.place):
            return sorted({version.name for version in self._checkpoints(origin, first)})

    def read(self, origin: str, name: str) -> list[str]:
        with translated(self.place):
            return [self._text(version) for version in self._kept(self._key(origin, name))]

    def notes(self, origin: str) -> list[str]:
        found, pool = list[str](), ThreadPoolExecutor(_READERS, "anchor-reader")
        try:
            with translated(self.place):
                versions = self._checkpoints(origin, 0)
                while some := list(islice(versions, _AHEAD)):
                    found += pool.map(self._text, some)
        finally:
            pool.shutdown(cancel_futures=True)
        return found

    def put(self, origin: str, name: str, note: str) -> list[str]:
        key = self._key(origin, name)
        with translated(self.place):
            kept = self._kept(key)
            if not kept:
                self._add(key, note)
                kept = self._kept(key)
            if not kept:
                # Somebody was writing it at the same time, and it is not there either.
                raise Transient(f"{self.place}: {key} was not written")
            return [self._text(version) for version in kept]

    def findings(self, origin: str) -> list[Finding]:
        from botocore.exceptions import ClientError

        with translated(self.place):
            try:
                versions, locks = self._keeps_versions(), self._locks_objects()
            except ClientError as error:
                if code_of(error) != "NoSuchBucket":
                    raise
                make = f"aws s3api create-bucket --bucket {self._bucket} --object-lock-enabled-for-bucket"
                return [Finding("anchor", False, f"{self.place}: there is no such bucket", make)]
        said = "keeps versions and locks objects" if versions and locks else f"has no {self._lacking(versions)}"
        return [Finding("anchor", versions and locks, f"{self.place}: the bucket {said}", self._fix(versions))]

    def close(self) -> None:
        self._client.close()

    # -- the bucket

    def _keeps_versions(self) -> bool:
        return bool(self._client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled")

    def _locks_objects(self) -> bool:
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if code_of(error) in _NO_LOCK:
                return False
            raise
        return bool(found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def _lacking(self, versions: bool) -> str:
        return "object lock" if versions else "versions and no object lock"

    def _fix(self, versions: bool) -> str:
        """The commands that make a bucket what it is to be."""
        about = f"--bucket {self._bucket}"
        lock = f"aws s3api put-object-lock-configuration {about} --object-lock-configuration ObjectLockEnabled=Enabled"
        enable = f"aws s3api put-bucket-versioning {about} --versioning-configuration Status=Enabled; "
        return lock if versions else enable + lock

    def _require_locks(self) -> None:
        """Nothing is written to a bucket that would not lock it: it would be taken for anchored ever after."""
        if not self._locks:
            if not self._locks_objects():
                fix = self._fix(self._keeps_versions())
                raise Transient(f"{self.place}: the bucket has no object lock, so nothing is written to it; run: {fix}")
            self._locks = True

    # -- objects

    def _key(self, origin: str, name: str) -> str:
        """The object of a name; without one, what all keys of a log begin with."""
        return f"{self._prefix}{folder_of(origin)}/{name}"

    def _checkpoints(self, origin: str, first: int) -> Iterator[_Version]:
        """Every version of every checkpoint of at least `first` entries, in the order of names."""
        found = self._versions(self._key(origin, ""), self._key(origin, least_name(first)))
        return (v for v in found if is_name(v.name) and v.key == self._key(origin, v.name))

    def _kept(self, key: str) -> list[_Version]:
        """The versions of one object, the oldest first."""
        return [version for version in self._versions(key) if version.key == key][::-1]

    def _versions(self, prefix: str, after: str = "") -> Iterator[_Version]:
        """Versions as the service lists them: by key, the newest first. What marks a deletion is none. The Versity
        gateway repeats on a page what the one before ended with."""
        marker, last = {"KeyMarker": after} if after else {}, None
        while True:
            page = self._client.list_object_versions(Bucket=self._bucket, Prefix=prefix, MaxKeys=_PAGE, **marker)
            for listed in page.get("Versions", ()):
                found = _Version(listed["Key"], listed["VersionId"])
                if found != last:
                    yield found
                last = found
            if not page.get("IsTruncated"):
                return
            markers = {"KeyMarker": page.get("NextKeyMarker"), "VersionIdMarker": page.get("NextVersionIdMarker")}
            marker = {name: value for name, value in markers.items() if value}

    def _add(self, key: str, note: str) -> None:
        """Write a locked object, and see that it is. Where another was quicker, that one is left as it is."""
        from botocore.exceptions import ClientError

        self._require_locks()
        until = datetime.now(UTC) + timedelta(days=self._days)
        try:
            made = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=note.encode(),
                ContentType="text/plain; charset=utf-8",
                IfNoneMatch="*",
                ObjectLockMode=self._mode,
                ObjectLockRetainUntilDate=until,
            )
        except ClientError as error:
            if code_of(error) in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return
            raise
        self._see(_Version(key, made.get("VersionId", "")), until)

    def _see(self, version: _Version, until: datetime) -> None:
        if not version.id:
            raise Transient(f"{self.place}: the bucket keeps no versions; run: {self._fix(False)}")
        about = {"Bucket": self._bucket, "Key": version.key, "VersionId": version.id}
        lock = self._client.get_object_retention(**about).get("Retention", {})
        locked = lock.get("RetainUntilDate")
        if lock.get("Mode") != self._mode or locked is None or locked < until - timedelta(seconds=_ROUNDED_S):
            raise Transient(f"{self.place}: {version.key} was written, and is not locked as it was asked for")

    def _text(self, version: _Version) -> str:
        found = self._client.get_object(Bucket=self._bucket, Key=version.key, VersionId=version.id)
        with found["Body"] as body:
            return str(body.read(_MAX_BYTES).decode(errors="surrogateescape"))
