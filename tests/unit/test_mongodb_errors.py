"""MongoDB's errors as ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pymongo import MongoClient, ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure

from connectors.mongodb.errors import translate
from worker_sync.core.errors import Permanent, Transient


def test_a_server_that_has_not_read_its_keys_yet_is_asked_again() -> None:
    refused = OperationFailure("No keys found for HMAC that is valid for time: { ts: Timestamp(1, 58) }", 211)
    assert isinstance(translate(refused, "mongodb://host/shop"), Transient)


def test_a_connection_to_a_server_that_was_still_starting_is_given_up_for_another() -> None:
    with MongoClient[dict[str, object]](connect=False) as client, client.start_session() as session:
        # What the driver does with a connection that it opened then; no server can be held in that state.
        opened_early = SimpleNamespace(supports_sessions=False)
        with pytest.raises(ConfigurationError) as early:
            session._apply_to({"find": "things"}, False, ReadPreference.PRIMARY, opened_early)  # type: ignore[arg-type]
    assert isinstance(translate(early.value, "mongodb://host/shop"), Transient)
    assert isinstance(translate(ConfigurationError("another"), "mongodb://host/shop"), Permanent)
