"""URLs of MongoDB databases."""

from __future__ import annotations

import pytest

from connectors.mongodb.conn import database_name, redacted
from connectors.mongodb.sink import MongoSink
from worker_sync.core.errors import ConfigError


def test_the_database_is_the_path_of_the_url() -> None:
    assert database_name("mongodb://a:1,b:2/shop?replicaSet=rs0") == "shop"


@pytest.mark.parametrize("url", ["mongodb://host", "mongodb://host/", "mongodb://u:secret@host/?replicaSet=rs0"])
def test_a_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="names no database") as refusal:
        MongoSink("shop", url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["mongodb://u:sec@ret@host/shop", "mongodb://u:secret@host:port/shop", "mongodb://u:secret@host/a b"]
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="can't be used") as refusal:
        MongoSink("shop", url)
    assert "secret" not in str(refusal.value)
    assert "sec" not in str(refusal.value).replace("section", "")


def test_the_password_and_the_options_are_not_shown() -> None:
    url = "mongodb://user:secret@a:1,b:2/shop?authMechanismProperties=AWS_SESSION_TOKEN:token"
    assert redacted(url) == "mongodb://user@a:1,b:2/shop"
    sink = MongoSink("shop", "mongodb://user:secret@localhost/shop")
    assert "secret" not in repr(sink)
    sink.close()
