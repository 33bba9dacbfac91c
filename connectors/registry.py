"""The engines: a URL scheme is one line. Engines are imported when a URL asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from connectors.base import Sink, Source
from worker_sync.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine's classes are, as `module:class`; None for a role that it does not have."""

    name: str
    source: str | None
    sink: str | None


ENGINES: Final = {
    "memory": Engine("memory", "connectors.memory:MemorySource", "connectors.memory:MemorySink"),
    "postgresql": Engine(
        "postgresql", "connectors.postgres.source:PostgresSource", "connectors.postgres.sink:PostgresSink"
    ),
    "postgres": Engine(
        "postgresql", "connectors.postgres.source:PostgresSource", "connectors.postgres.sink:PostgresSink"
    ),
    "triggers+postgresql": Engine("postgresql", "connectors.postgres.triggers.source:TriggerSource", None),
    "triggers+postgres": Engine("postgresql", "connectors.postgres.triggers.source:TriggerSource", None),
    "ledger+postgresql": Engine("ledger", None, "connectors.ledger.sink:LedgerSink"),
    "ledger+postgres": Engine("ledger", None, "connectors.ledger.sink:LedgerSink"),
    "mongodb": Engine("mongodb", "connectors.mongodb.source:MongoSource", "connectors.mongodb.sink:MongoSink"),
    "mongodb+srv": Engine("mongodb", "connectors.mongodb.source:MongoSource", "connectors.mongodb.sink:MongoSink"),
    "mysql": Engine("mysql", "connectors.mysql.source:MysqlSource", "connectors.mysql.sink:MysqlSink"),
    "mariadb": Engine("mysql", "connectors.mysql.source:MysqlSource", "connectors.mysql.sink:MysqlSink"),
}


def engine_of(name: str, url: str) -> Engine:
    """The engine that the URL of the configured database `name` means. Raises ConfigError with the known schemes."""
    scheme = urlsplit(url).scheme
    engine = ENGINES.get(scheme)
    if engine is None:
        raise ConfigError(
            f"databases.{name}.url: no engine for URL scheme {scheme!r} (known: {', '.join(sorted(ENGINES))})"
        )
    return engine


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def open_source(name: str, url: str) -> Source:
    """The source for the configured database `name`; opens no connection yet."""
    engine = engine_of(name, url)
    if engine.source is None:
        raise ConfigError(f"databases.{name}: {engine.name} can't be a source yet")
    source: Source = _load(engine.source)(name, url)
    return source


def open_sink(name: str, url: str) -> Sink:
    """The sink for the configured database `name`; connects on first use."""
    engine = engine_of(name, url)
    if engine.sink is None:
        raise ConfigError(f"databases.{name}: {engine.name} can't be a target yet")
    sink: Sink = _load(engine.sink)(name, url)
    return sink
