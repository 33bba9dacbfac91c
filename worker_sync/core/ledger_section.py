"""The configuration of the audit ledger: its name, who signs it, and where its checkpoints are kept a second time."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from worker_sync.core.blocks import Block, Int, LongKey

S3_SCHEME: Final = "s3://"
#: A `key` that a key management service keeps: `awskms:///` and the id, the ARN or the alias of a key there.
KMS_SCHEME: Final = "awskms:///"

_S3: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[^?#]*)?")
#: How the two forms of a private key begin.
_NAMED: Final = "PRIVATE+KEY+"
_PEM: Final = "-----BEGIN"
_KMS: Final = re.compile(r"awskms:///[A-Za-z0-9:/_-]+")


def _anchor(place: str) -> str:
    if place.startswith(S3_SCHEME):
        if not _S3.fullmatch(place):
            raise PydanticCustomError("anchor", "not a bucket; write s3://bucket or s3://bucket/prefix")
    elif "://" in place or not place:
        raise PydanticCustomError("anchor", "no such anchor; write a directory, s3://bucket or s3://bucket/prefix")
    return place


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise PydanticCustomError("endpoint", "not an endpoint; write https://host:port, credentials apart from it")
    return url


def _key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not _KMS.fullmatch(text) and not text.lstrip().startswith((_NAMED, _PEM)):
        raise PydanticCustomError(
            "key",
            "no private key (PRIVATE+KEY+... or PEM, as in key: ${VARIABLE}) and no awskms:///alias/NAME; "
            "without it the file ledger.key in state_dir is meant",
        )
    return key


class AwsAccess(Block):
    """How a service is reached: at `endpoint`, where it is not Amazon's, in `region`, with an access key. What is left
    out is looked for where Amazon's tools look: environment, profiles, the machine's role."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> AwsAccess:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise PydanticCustomError(
                "access", "access_key_id and secret_access_key go together; give both, or none for those of the machine"
            )
        return self


class S3(AwsAccess):
    """The anchors that are buckets. Each checkpoint is locked there for `retention_days`: in `mode` compliance nobody
    can take that back, in governance who has `s3:BypassGovernanceRetention`. All else is as in `kms`."""

    retention_days: Annotated[Int, Field(ge=1, le=36_500)]
    mode: Literal["compliance", "governance"] = "compliance"


class Ledger(Block):
    """The audit ledger's name, `origin`, and how its checkpoints are signed: with `key`, a private key
    (PRIVATE+KEY+..., or PEM with a `key_name`) or the address of one that AWS KMS keeps (`awskms:///alias/NAME`, with a
    `key_name`), or by the program `key_command`; by default with that of the file `ledger.key` in `state_dir`.
    `public_key` (a verifier key, or PEM with a `key_name`) is that of a key which is elsewhere; `key_command` needs it.
    `trusted` are the verifier keys that signed before it. Each checkpoint is written into every one of `anchors`:
    directories, or buckets as `s3://BUCKET/PREFIX`. `personal_key` opens what `audit.SOURCE.personal_data` is
    encrypted with; who loses it loses that, unless `audit personal-keys add` let another key open it, too."""

    origin: Annotated[str, StringConstraints(pattern=r"^[^\s+]+$")] = "worker-sync/ledger"
    key: Annotated[SecretStr, AfterValidator(_key)] | None = None
    key_command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    key_name: str | None = None
    public_key: str | None = None
    trusted: tuple[str, ...] = ()
    anchors: tuple[Annotated[str, AfterValidator(_anchor)], ...] = ()
    personal_key: LongKey | None = None
    kms: AwsAccess = AwsAccess()
    s3: S3 | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Ledger:
        if self.key is not None and self.key_command is not None:
            raise PydanticCustomError("key", "key and key_command exclude each other; remove one")
        if self.key_command is not None and self.public_key is None:
            raise PydanticCustomError("key", "key_command needs public_key: the key that its signatures are of")
        if self.kms_key is not None and self.key_name is None and self.public_key is None:
            raise PydanticCustomError("key", "a key in a KMS needs key_name: what checkpoints call it")
        if self.key is not None and self.key.get_secret_value().lstrip().startswith(_PEM) and self.key_name is None:
            raise PydanticCustomError("key", "a key in PEM needs key_name: what checkpoints call it")
        if self.public_key is not None and self.has_local_key:
            raise PydanticCustomError("key", "public_key is for a key that is elsewhere; remove it")
        if self.s3 is None and any(place.startswith(S3_SCHEME) for place in self.anchors):
            raise PydanticCustomError(
                "s3", "anchors on S3 need s3: how long they stay locked, as in s3: {retention_days: 3650}"
            )
        return self

    @property
    def kms_key(self) -> str | None:
        """The key's id, ARN or alias, where AWS KMS keeps it."""
        text = self.key.get_secret_value() if self.key else ""
        return text.removeprefix(KMS_SCHEME) if text.startswith(KMS_SCHEME) else None

    @property
    def has_local_key(self) -> bool:
        """Whether the private key is in the configuration or in `state_dir`."""
        return self.key_command is None and self.kms_key is None

    def secrets(self) -> set[str]:
        keys = [self.key if self.has_local_key else None, self.personal_key]
        keys += [self.kms.secret_access_key, self.s3.secret_access_key if self.s3 else None]
        return {key.get_secret_value() for key in keys if key is not None}
