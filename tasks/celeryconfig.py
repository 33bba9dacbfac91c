"""Our settings as Celery's. Celery ignores a misspelt key in silence, so a test compares every key with its own."""

from __future__ import annotations

from typing import Any, Final

from celery.schedules import crontab

from beat_schedule import Entry, schedule
from tasks import beat, rabbitmq, redis
from tasks.configuration import broker_url
from tasks.queues import BY_TASK
from worker_sync.core.errors import ConfigError
from worker_sync.core.settings import Settings

RELIABLE: Final = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # SIGTERM lets the running task end and hands back the others. Celery's soft shutdown would not do for the solo
    # pool: its signal handler waits inside of the very task that it waits for, and then breaks it.
    "worker_soft_shutdown_timeout": 0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": 4,
    # What can't reach a task is kept as a dead letter instead of thrown away.
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
        "task_annotations": {task: {"time_limit": row.time_limit_s} for task, row in BY_TASK.items()},
        "worker_pool": settings.worker.pool,
        "worker_concurrency": settings.worker.concurrency,
        "timezone": "UTC",
        "beat_schedule": {name: _beat(name, entry) for name, entry in schedule(settings).items()},
        "beat_schedule_filename": str(settings.state_dir / "celerybeat-schedule"),
        "beat_max_loop_interval": 5,
        "beat_scheduler": beat.NAME,
    }


def transport(scheme: str) -> dict[str, Any]:
    """The part that depends on the broker."""
    return rabbitmq.celery_settings(scheme) if scheme in rabbitmq.SCHEMES else redis.celery_settings()


def _beat(name: str, entry: Entry) -> dict[str, Any]:
    return {"task": entry.task, "schedule": _when(name, entry), "options": {"expires": entry.expires_s}}


def _when(name: str, entry: Entry) -> float | crontab:
    if entry.crontab is None:
        assert entry.every_s is not None
        return entry.every_s
    try:
        minute, hour, day, month, weekday = entry.crontab.split()
        return crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except ValueError as error:
        raise ConfigError(f"schedules.{name}.crontab: {error}") from None
