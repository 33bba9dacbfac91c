"""What is asked of the broker before anything runs, and what must exist in it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

from kombu import Connection
from kombu.exceptions import OperationalError

from connectors.base import Finding
from tasks import rabbitmq
from tasks.celeryconfig import transport
from worker_sync.composition.workspace import Workspace
from worker_sync.core.errors import Unreachable
from worker_sync.core.secrets import Url

#: Seconds until a broker that doesn't answer counts as unreachable.
CONNECT_S: Final = 4
#: The first with a delivery limit and at-least-once dead letters in quorum queues.
RABBITMQ: Final = (3, 10)
#: The oldest that is tried in tests is 6.2; scripts and blocking reads are older.
REDIS: Final = (6, 0)


def create_queues(space: Workspace) -> list[str]:
    """Create the queues and what delays messages, on RabbitMQ; returns the names of what was missing. Redis needs
    none."""
    if space.broker.scheme not in rabbitmq.SCHEMES:
        return []
    with _connected(space.broker) as connection:
        return rabbitmq.declare(connection)


def broker_findings(url: Url) -> Sequence[Finding]:
    """Whether the broker answers and is new enough. Raises Unreachable."""
    with _connected(url) as connection:
        product, version = _product(connection, url)
    reached = Finding("reachable", True, f"{product} {version}", "")
    least = RABBITMQ if product == "RabbitMQ" else REDIS
    if url.scheme in rabbitmq.SCHEMES and product != "RabbitMQ":
        return [Finding("product", False, f"{product} has no quorum queues", "use RabbitMQ 3.10 or newer, or Redis")]
    wanted = ".".join(map(str, least))
    fresh = _numbers(version) >= least
    return [reached, Finding("version", fresh, f"{version}; {wanted} or newer is needed", f"upgrade to {wanted}")]


def _product(connection: Connection, url: Url) -> tuple[str, str]:
    opened: Any = connection
    if url.scheme in rabbitmq.SCHEMES:
        said = opened.connection.server_properties
        return str(said.get("product", "this broker")), str(said.get("version", "0"))
    with opened.channel() as channel:
        return "Redis", str(channel.client.info("server")["redis_version"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


@contextlib.contextmanager
def _connected(url: Url) -> Iterator[Connection]:
    options = transport(url.scheme)
    connection = Connection(
        url.reveal(),
        connect_timeout=CONNECT_S,
        transport_options=options["broker_transport_options"],
        ssl=options.get("broker_use_ssl", False),
    )
    errors: Any = connection  # its types say less
    lost: tuple[type[Exception], ...] = (*errors.connection_errors, *errors.channel_errors, OperationalError, OSError)
    with connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_S)
            yield connection
        except lost as error:
            raise Unreachable(f"the broker: {type(error).__name__}: {error}{_advice(error)}") from error


def _advice(error: BaseException | None) -> str:
    """What to do about a certificate that is refused, which kombu wraps in errors of its own."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ". Name the file with its authority in the environment variable SSL_CERT_FILE"
        error = error.__cause__ or error.__context__
    return ""
