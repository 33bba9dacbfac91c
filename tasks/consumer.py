"""The worker's consumer: what can't be handed to a task is put aside. Celery's own throws it away."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from kombu.exceptions import ContentDisallowed, DecodeError

from tasks import liveness, messages, rabbitmq
from tasks.application import uses_rabbitmq
from tasks.rabbitmq import DELIVERY_LIMIT
from worker_sync.core.errors import Unreachable
from worker_sync.core.log import event

if TYPE_CHECKING:
    AnyConsumer = Any
else:
    AnyConsumer = liveness.Consumer

log = logging.getLogger(__name__)

#: Seconds until a broker that is there, and refused something, is asked again.
REFUSED_S: Final = 1.0


class Consumer(AnyConsumer):  # type: ignore[misc]
    """Errors say what kind of message it was and never quote it: it may hold rows."""

    def connect(self) -> Any:
        connection = super().connect()
        with ExitStack() as undo:
            undo.callback(connection.close)
            if uses_rabbitmq(self.app):
                # Celery declares the queues that this worker consumes and then binds all of them for delays.
                with self.app.connection_for_write() as own:
                    rabbitmq.declare(own)
            undo.pop_all()
        return connection

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        self._pause()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        if not isinstance(exc, self.connection_errors):
            self._pause()

    def _pause(self) -> None:
        """Nothing tells when the broker would take what it refused. `maybe_shutdown` comes next."""
        liveness.say(ready=False)
        time.sleep(REFUSED_S)

    def apply_eta_task(self, task: Any) -> None:
        super().apply_eta_task(task)
        # Its timer's entry has it as an argument. Only the collector would free that circle, and with it the message.
        task._eta_timer_entry = None

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._put_aside(message, type(exc).__name__, "its content can't be decoded")

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._put_aside(message, "UnknownMessage", "it is no message of a task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._put_aside(
            message, "UnknownTask", f"no task {message.headers.get('task')!r} here; is this worker too old?"
        )

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        self._put_aside(message, type(exc).__name__, "it has not the form of a task, or a content type that is refused")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        handle = super().create_task_handler(*args, **kwargs)
        # A RabbitMQ counts deliveries itself.
        counts = not uses_rabbitmq(self.app)

        def checked(message: Any) -> Any:
            if counts and messages.given_back(message.headers) > DELIVERY_LIMIT:
                return self._put_aside(message, "delivery_limit", messages.LIMIT_EXCEEDED)
            if _has_no_arguments(message):
                return self.on_unknown_message(None, message)
            return handle(message)

        return checked

    def _put_aside(self, message: Any, error_type: str, error: str) -> None:
        queue = messages.queue_name(message)
        extra = event("put-aside", queue=queue, error_type=error_type)
        try:
            messages.put_aside(self.app, message, error_type, error)
        except Unreachable as unsaved:
            self._hand_over(message, unsaved)
            return
        log.error("a message of %s is put aside: %s", queue, error, extra=extra)
        message.ack_log_error(log, self.connection_errors)

    def _hand_over(self, message: Any, error: Unreachable) -> None:
        """Without a copy, RabbitMQ puts the message itself aside; in Redis it goes back to be tried once more."""
        log.warning("a message could not be put aside yet: %s", error, extra=event("put-aside-failed"))
        message.reject_log_error(log, self.connection_errors, requeue=not uses_rabbitmq(self.app))


def _has_no_arguments(message: Any) -> bool:
    """Whether the content is nothing that a task can be called with, which Celery's handler would die of."""
    try:
        return not isinstance(message.payload, list | tuple | dict)
    except (DecodeError, ContentDisallowed):
        return False  # the handler has a name for it
