"""Kombu's Redis transport with one client object per channel.

Kombu makes a new client for every operation. That opens no connection, but building one takes longer than the
operation: four of them were a quarter of a small task's time.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis

NAME: Final = f"{__name__}:Transport"


class Channel(redis.Channel):
    """Holds no connection while it isn't in use: clients borrow them from the channel's pool."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        # What subscribes or waits keeps its connection, so it must have a client of its own.
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        kept = self.__dict__.get("_kept_client")
        if kept is None or kept.connection_pool is not self.pool:
            kept = self.__dict__["_kept_client"] = super()._create_client()  # type: ignore[misc]
        return kept


class Transport(redis.Transport):
    Channel = Channel


def install() -> None:
    """Use it for redis:// and rediss:// in this process. The URLs keep their schemes, by which Flower knows them."""
    TRANSPORT_ALIASES.update(redis=NAME, rediss=NAME)
