"""How many messages wait in the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from worker_sync.core.errors import Unreachable

#: Seconds until a broker that doesn't answer counts as unreachable.
CONNECT_S: Final = 3


class QueueDepths:
    """Asks the broker over one connection; a broken one is opened again at the next call."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._connection = Connection(url, connect_timeout=CONNECT_S)
        self._queues = queues
        refused: tuple[type[BaseException], ...] = self._connection.channel_errors
        lost: tuple[type[BaseException], ...] = self._connection.connection_errors
        self._refused = refused
        self._errors: tuple[type[BaseException], ...] = (*lost, *refused, OperationalError, OSError)

    def __call__(self) -> Mapping[str, int]:
        """Waiting messages by queue. Raises Unreachable."""
        try:
            self._connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
            return self._ask()
        except self._errors as error:
            self._connection.release()
            raise Unreachable(f"the broker: {type(error).__name__}") from error

    def _ask(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for queue in self._queues:
            # A refusal closes the channel, so each question has its own.
            with self._connection.channel() as channel:
                try:
                    declared: Any = Queue(queue, channel=channel).queue_declare(passive=True)
                    found[queue] = declared.message_count
                except self._refused:
                    found[queue] = 0  # Redis keeps no empty queues
        return found

    def close(self) -> None:
        self._connection.release()
