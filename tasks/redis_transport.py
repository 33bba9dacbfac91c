"""Kombu's Redis transport with one client object per channel, a count of deliveries, and room for what is no message.

Kombu makes a new client for every operation. That opens no connection, but building one takes longer than the
operation: four of them were a quarter of a small task's time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections.abc import Iterator
from queue import Empty
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

NAME: Final = f"{__name__}:Transport"
#: The header in which RabbitMQ's quorum queues count too.
DELIVERIES: Final = "x-delivery-count"
#: Seconds for the answer to a blocking read, for which Redis itself takes a second at most.
LAST_READ_S: Final = 2.0


class Message(virtual.Message):
    """What lay in the list of a queue; of anything but a message, its text is the body."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        if not _has_form(payload):
            payload = foreign(json.dumps(payload, default=repr).encode(), "")
        super().__init__(payload, channel=channel, **kwargs)


def _has_form(payload: Any) -> bool:
    if not isinstance(payload, dict) or not isinstance(payload.get("headers", {}), dict):
        return False
    properties = payload.get("properties")
    if not isinstance(properties, dict) or "delivery_tag" not in properties:
        return False
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not {"exchange", "routing_key"} <= info.keys():
        return False
    return _has_body(payload.get("body"), properties.get("body_encoding"))


def _has_body(body: Any, encoding: Any) -> bool:
    # A full look would decode every body twice. What isn't base64 has a length or characters that base64 has not.
    return encoding != "base64" or (isinstance(body, str) and len(body) % 4 == 0 and body.isascii())


class Channel(redis.Channel):
    """Holds no connection while it isn't in use: clients borrow them from the channel's pool."""

    Message = Message
    #: An acknowledgement did not arrive. Celery logs that and counts on the connection to break.
    owes_acknowledgement: bool = False

    def _create_client(self, asynchronous: bool = False) -> Any:
        # What subscribes or waits keeps its connection, so it must have a client of its own.
        if asynchronous:
            return _remembering(super()._create_client(asynchronous=True))  # type: ignore[misc]
        kept = self.__dict__.get("_kept_client")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self.__dict__["_kept_client"] = super()._create_client()  # type: ignore[misc]
        return kept

    def close(self) -> None:
        """Close it also while Redis is away. What it has not acknowledged stays in Redis and comes again.

        Kombu leaves off at the first error, with the channel half open, and Celery closes a lost connection twice:
        the second time the transport has forgotten its client, and an AttributeError ends the worker.
        """
        lost: tuple[type[Exception], ...] = self.connection_errors  # type: ignore[attr-defined]
        with contextlib.suppress(*lost):
            super().close()
        if not self.closed:
            # The first attempt ended at the reply that the channel waited for. It waits for none now.
            with contextlib.suppress(*lost):
                super().close()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """A Redis that takes no writes (a full disk) refuses it. As a lost connection that is logged, and the message
        comes again; as what it is it would end the worker."""
        with self._acknowledging():
            super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._acknowledging():
            super().basic_reject(delivery_tag, requeue)

    @contextlib.contextmanager
    def _acknowledging(self) -> Iterator[None]:
        try:
            yield
        except ResponseError as refused:
            self.owes_acknowledgement = True
            raise RedisConnectionError(str(refused)) from refused
        except self.connection_errors:  # type: ignore[attr-defined]
            self.owes_acknowledgement = True
            raise

    def _do_restore_message(self, payload: Any, *args: Any, **kwargs: Any) -> None:
        headers = payload.get("headers") if isinstance(payload, dict) else None
        if isinstance(headers, dict):
            headers[DELIVERIES] = int(headers.get(DELIVERIES) or 0) + 1
        super()._do_restore_message(payload, *args, **kwargs)  # type: ignore[misc]

    def _basic_cancel(self, consumer_tag: str) -> Any:
        cancelled = super()._basic_cancel(consumer_tag)  # type: ignore[misc]
        if not self._consumers:
            self._give_back_what_was_asked_for()
        return cancelled

    def _give_back_what_was_asked_for(self) -> None:
        """A blocking read is under way, and its message may be out of its list already. Kombu looks when the connection
        is closed, after all tasks: a worker that is ended before that would take the message along."""
        this: Any = self  # its types say less
        with contextlib.suppress(Empty, *this.connection_errors):
            if this._in_poll and this._in_poll.can_read(timeout=LAST_READ_S):
                self._brpop_read()  # without a consumer it is returned to its queue

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except (json.JSONDecodeError, UnicodeDecodeError):
            # It is out of its list already, so this is the last chance to keep it.
            queue, raw = self.client.last_read
            name = queue.decode().rsplit(self.sep, 1)[0]
            self.connection._deliver(foreign(raw, name), name)
            return True


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
    return channel.Message(content, channel=channel)


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
    """Ends a connection on which an acknowledgement was lost: its channel goes on counting the message among those that
    the worker has, and with room for no other one it would ask for nothing any more. The reads of a channel and its
    acknowledgements travel over connections of their own, so the ones may well go on without the others."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        loop.on_tick.add(self._require_acknowledgements)

    def _require_acknowledgements(self) -> None:
        cycle: Any = self.cycle
        if any(channel.owes_acknowledgement for channel in cycle._channels):
            raise RedisConnectionError("an acknowledgement was lost")


def install() -> None:
    """Use it for redis:// and rediss:// in this process. The URLs keep their schemes, by which Flower knows them."""
    TRANSPORT_ALIASES.update(redis=NAME, rediss=NAME)
