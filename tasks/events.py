"""What workers tell monitors, such as Flower."""

from __future__ import annotations

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):
    """Waits for no confirmation. An event is worth none, and the main loop, which sends it, would wait for a RabbitMQ
    that takes no messages for the time being, or for one that is not heard any more."""

    def enable(self) -> None:
        super().enable()
        this: Any = self  # its types say less
        channel = this.producer.channel
        if this.channel is None and hasattr(channel, "basic_publish_confirm"):
            # Channels of this connection confirm by this attribute; this one is of the events alone.
            channel.basic_publish = channel._basic_publish


class Events(CeleryEvents):
    dispatcher_cls = "tasks.events:Dispatcher"
