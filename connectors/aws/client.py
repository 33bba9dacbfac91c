"""Clients that give up within seconds, and errors without secrets.

A message has the service's word for an error (`AccessDenied`) and ours for what to do. What else a service says is left
out: it may repeat what it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from worker_sync.core.errors import ConfigError, Transient, Unreachable
from worker_sync.core.ledger_section import AwsAccess

INSTALL: Final = "pip install 'worker-sync[aws]'"
#: Seconds for a connection, and for each piece of an answer; a request is tried this often. With the pause between two
#: tries, a service that says nothing is given up after some seven seconds.
CONNECT_S: Final = 2
READ_S: Final = 3
TRIES: Final = 2

#: What to do about an error, by its code.
_CREDENTIALS: Final = "the credentials are not accepted; see access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID"
_ADVICE: Final = {
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "AccessDenied": "the credentials are good, and may not do this; see docs/how-to/audit-trail.md for what is needed",
    "AccessDeniedException": "the credentials are good, and may not do this; allow kms:GetPublicKey and kms:Sign",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket is in another region; set ledger.s3.region",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set ledger.s3.region",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "NotFoundException": "there is no such key in this region and account",
    "DisabledException": "the key is disabled",
    "KMSInvalidStateException": "the key is disabled, or waits for its deletion",
    "InvalidKeyUsageException": "the key is not one to sign with; make it with --key-usage SIGN_VERIFY",
    "UnsupportedOperationException": "the key is not one to sign with; make it with --key-usage SIGN_VERIFY",
}


def client(service: Literal["s3", "kms"], access: AwsAccess) -> Any:
    """A client of a service; connects on first use. Raises ConfigError with what to install or to set."""
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session
    except ImportError:
        raise ConfigError(f"{service} needs a library that is not installed; run: {INSTALL}") from None
    secret = access.secret_access_key
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        # A server of one's own has one name, and no name for each bucket.
        s3={"addressing_style": "path" if access.endpoint else "auto"},
        user_agent_extra="worker-sync",
    )
    try:
        return get_session().create_client(
            service,
            endpoint_url=access.endpoint,
            region_name=access.region,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=config,
        )
    except BotoCoreError as error:
        raise ConfigError(f"{service}: {error}; see ledger.{service}") from None


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise what goes wrong at `place` as Transient: services are mended, and credentials renewed, while checkpoints
    wait."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = code_of(error)
        advice = _ADVICE.get(code)
        raise Transient(f"{place}: {error.operation_name}: {code}{f': {advice}' if advice else ''}") from None
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
        raise Unreachable(f"{place}: {type(error).__name__}") from None
    except exceptions.BotoCoreError as error:
        # Such as credentials that are nowhere; nothing of these was received from anybody.
        raise Transient(f"{place}: {error}") from None


def code_of(error: Any) -> str:
    """The service's word for an error; the HTTP status where there is none."""
    return str(error.response.get("Error", {}).get("Code") or "an error without a name")
