"""Kombu's Redis transport with one client object per channel, a count of deliveries, and room for what is no message.

Kombu makes a new client for every operation. That opens no connection, but building one takes longer than the
operation: four of them were a quarter of a small task's time.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis

NAME: Final = f"{__name__}:Transport"
#: The header in which RabbitMQ's quorum queues count too.
DELIVERIES: Final = "x-delivery-count"


class Channel(redis.Channel):
    """Holds no connection while it isn't in use: clients borrow them from the channel's pool."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        # What subscribes or waits keeps its connection, so it must have a client of its own.
        if asynchronous:
            return _remembering(super()._create_client(asynchronous=True))  # type: ignore[misc]
        kept = self.__dict__.get("_kept_client")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self.__dict__["_kept_client"] = super()._create_client()  # type: ignore[misc]
        return kept

    def _do_restore_message(self, payload: Any, *args: Any, **kwargs: Any) -> None:
        headers = payload.get("headers") if isinstance(payload, dict) else None
        if isinstance(headers, dict):
            headers[DELIVERIES] = int(headers.get(DELIVERIES) or 0) + 1
        super()._do_restore_message(payload, *args, **kwargs)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (json.JSONDecodeError, UnicodeDecodeError):
            # It is out of its list already, so this is the last chance to keep it.
            queue, raw = self.client.last_read
            name = queue.decode().rsplit(self.sep, 1)[0]
            self.connection._deliver(foreign(raw, name), name)
            return True

    def message_to_python(self, raw_message: Any) -> Any:
        try:
            return super().message_to_python(raw_message)
        except (KeyError, TypeError, AttributeError, ValueError):
            return super().message_to_python(foreign(json.dumps(raw_message, default=repr).encode(), ""))


def foreign(raw: bytes, queue: str) -> dict[str, Any]:
    """Bytes that no Celery has sent, in the form of a message whose body they are."""
    return {
        "body": base64.b64encode(raw).decode(),
        "content-type": "application/octet-stream",
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def message_from(channel: Channel, raw: bytes) -> Any:
    """A message as it lies in its list."""
    try:
        content = json.loads(raw)
    except ValueError:
        content = foreign(raw, "")
    return channel.message_to_python(content)


def _remembering(client: Any) -> Any:
    """The client, which keeps the last reply of a blocking read."""
    parse = client.parse_response

    def parse_response(connection: Any, command_name: Any, **options: Any) -> Any:
        reply = parse(connection, command_name, **options)
        if command_name == "BRPOP":
            client.last_read = reply
        return reply

    client.parse_response = parse_response
    return client


class Transport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Use it for redis:// and rediss:// in this process. The URLs keep their schemes, by which Flower knows them."""
    TRANSPORT_ALIASES.update(redis=NAME, rediss=NAME)
