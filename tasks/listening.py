"""Whether a RabbitMQ that sends nothing is merely idle.

A worker waits for messages without asking for them, and a line that a proxy has forgotten brings none. Heartbeats would
notice, but a worker that runs a long task answers none, and would lose a line that works.
"""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps

from tasks.application import uses_rabbitmq

#: Seconds between two questions. How long an answer may take is a matter of the connection.
EVERY_S: Final = 10.0


class Listening(bootsteps.StartStopStep):
    """Asks RabbitMQ for an answer now and then. Without one the worker connects anew, as after any lost connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    #: None while it has not begun: a connection may be lost before.
    _questions: Any = None

    def include_if(self, parent: Any) -> bool:
        return uses_rabbitmq(parent.app)

    def start(self, parent: Any) -> None:
        connection = parent.connection.connection
        self._questions = parent.timer.call_repeatedly(EVERY_S, ask, (connection,))

    def stop(self, parent: Any) -> None:
        """The connection is about to be closed."""
        if self._questions is not None:
            self._questions.cancel()

    terminate = stop


def ask(connection: Any) -> None:
    """Open a channel, which needs an answer, and close it. Raises TimeoutError without one."""
    connection.channel().close()
