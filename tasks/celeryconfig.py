"""Our settings as Celery's. Celery ignores a misspelt key in silence, so a test compares every key with its own."""

from __future__ import annotations

from typing import Any, Final

from tasks import rabbitmq, redis
from tasks.configuration import broker_url
from tasks.queues import BY_TASK
from worker_sync.core.settings import Settings

#: Seconds before its time limit at which a task is interrupted, if it can be.
SOFTER_S: Final = 10

RELIABLE: Final = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # SIGTERM lets running tasks end; `tasks.handing_back` bounds that. Celery's soft shutdown would not do: its signal
    # handler waits inside of the very task of a solo pool, always to the end, and threads can't be ended at all.
    "worker_soft_shutdown_timeout": 0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": 4,
    # What can't reach a task is kept as a dead letter; signs of life go on while the broker is away.
    "worker_consumer": "tasks.consumer:Consumer",
    # A publisher that can't reach the broker wants to know within seconds.
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
}

LEAN: Final = {
    "task_serializer": "msgpack",
    "accept_content": ["msgpack", "json"],
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_track_started": False,
    "worker_send_task_events": True,
    "task_send_sent_event": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}


def celery_settings(settings: Settings) -> dict[str, Any]:
    """The whole configuration of the Celery application."""
    broker = broker_url(settings)
    return {
        **RELIABLE,
        **LEAN,
        **transport(broker.scheme),
        "broker_url": broker.reveal(),
        "task_default_queue": "default",
        "task_default_routing_key": "default",
        "task_create_missing_queues": False,
        "task_routes": {task: {"queue": row.name} for task, row in BY_TASK.items()},
        "task_annotations": {task: _limits(row.time_limit_s) for task, row in BY_TASK.items()},
        "worker_pool": settings.worker.pool,
        "worker_concurrency": settings.worker.concurrency,
        "timezone": "UTC",
        "beat_max_loop_interval": 5,
        # It reads the schedule by itself. By name: a worker needs nothing of it.
        "beat_scheduler": "tasks.beat:Scheduler",
    }


def _limits(seconds: int) -> dict[str, int]:
    """The softer limit raises an error in the task, which is retried; the hard one ends its process."""
    return {"time_limit": seconds, "soft_time_limit": seconds - SOFTER_S}


def transport(scheme: str) -> dict[str, Any]:
    """The part that depends on the broker."""
    return rabbitmq.celery_settings(scheme) if scheme in rabbitmq.SCHEMES else redis.celery_settings()
