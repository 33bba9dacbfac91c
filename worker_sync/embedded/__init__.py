"""Real servers from wheels under one directory: PostgreSQL, Redis and MongoDB without an installation."""

from worker_sync.embedded.errors import EmbeddedServerFailed, MissingWheel
from worker_sync.embedded.lifecycle import EmbeddedServers
from worker_sync.embedded.mongodb import EmbeddedMongo
from worker_sync.embedded.postgres import EmbeddedPostgres
from worker_sync.embedded.redis import EmbeddedRedis
from worker_sync.embedded.server import Server

__all__ = [
    "EmbeddedMongo",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServerFailed",
    "EmbeddedServers",
    "MissingWheel",
    "Server",
]
