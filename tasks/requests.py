"""A task seen from the worker's main process, which is all that is left when the task's own process is ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import TimeLimitExceeded
from celery.worker.request import Request as CeleryRequest

from tasks import messages
from worker_sync.core.errors import Unreachable
from worker_sync.core.log import event

if TYPE_CHECKING:
    AnyRequest = Any
else:
    AnyRequest = CeleryRequest

log = logging.getLogger(__name__)


class Request(AnyRequest):  # type: ignore[misc]
    """What outlasts its hard time limit is put aside with its message before it is acknowledged. The control store is
    not asked from here: children to come would inherit the connection."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, TimeLimitExceeded) and self._is_kept():
            self._put_aside()
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _is_kept(self) -> bool:
        return bool(self.task.parked) and not self.acknowledged

    def _put_aside(self) -> None:
        error = "its process was ended at the hard time limit; it may have been done in part"
        try:
            messages.put_aside(self.app, self.message, "TimeLimitExceeded", error)
        except Unreachable as unsaved:
            log.warning("%s could not be put aside yet: %s", self.name, unsaved, extra=event("put-aside-failed"))
            self.reject(requeue=True)
            return
        queue = messages.queue_name(self.message)
        extra = event("put-aside", queue=queue, task=self.name, error_type="TimeLimitExceeded")
        log.error("a message of %s is put aside: %s", queue, error, extra=extra)
