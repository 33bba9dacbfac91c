"""Real servers under one directory: PostgreSQL, Redis and MongoDB from wheels, without an installation, and MariaDB and
MySQL where the machine has them."""

from worker_sync.embedded.errors import EmbeddedServerFailed, MissingProgram, MissingWheel
from worker_sync.embedded.lifecycle import EmbeddedServers
from worker_sync.embedded.mongodb import EmbeddedMongo
from worker_sync.embedded.mysql import EmbeddedMysql
from worker_sync.embedded.postgres import EmbeddedPostgres
from worker_sync.embedded.redis import EmbeddedRedis
from worker_sync.embedded.server import Server

__all__ = [
    "EmbeddedMongo",
    "EmbeddedMysql",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServerFailed",
    "EmbeddedServers",
    "MissingProgram",
    "MissingWheel",
    "Server",
]
