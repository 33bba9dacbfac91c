"""MongoDB's errors as ours."""

from __future__ import annotations

from pymongo.errors import ConfigurationError, OperationFailure

from connectors.mongodb.errors import translate
from worker_sync.core.errors import Permanent, Transient


def test_a_server_that_has_not_read_its_keys_yet_is_asked_again() -> None:
    refused = OperationFailure("No keys found for HMAC that is valid for time: { ts: Timestamp(1, 58) }", 211)
    assert isinstance(translate(refused, "mongodb://host/shop"), Transient)


def test_a_wrong_setting_is_not_asked_again() -> None:
    assert isinstance(translate(ConfigurationError("another"), "mongodb://host/shop"), Permanent)
