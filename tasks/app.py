"""The Celery application: `celery -A tasks.app worker|beat|flower|inspect`. Importing it opens nothing."""

from __future__ import annotations

import sys
from typing import Any

from celery.signals import beat_init, setup_logging, worker_init

from tasks import redis_transport
from tasks.application import Application
from tasks.celeryconfig import celery_settings
from tasks.configuration import settings
from worker_sync import tracing
from worker_sync.core import log

redis_transport.install()
app = Application(
    "worker-sync",
    set_as_current=False,
    include=[
        "tasks.sync",
        "tasks.audit",
        "tasks.health",
        "tasks.cleanup",
        "tasks.dead_letters",
        "tasks.drain",
        "tasks.progress",
        "tasks.reporting",
    ],
)
app.add_defaults(lambda: celery_settings(settings()))
# By name: only a worker needs them.
app.steps["worker"].update(("tasks.liveness:Signs", "tasks.handing_back:HandBack"))
app.steps["consumer"].add("tasks.listening:Listening")


@setup_logging.connect
def _configure_log(**_: Any) -> None:
    log.configure(settings().log, settings().secrets())


@worker_init.connect
def _prepare_worker(**_: Any) -> None:
    """`worker-sync worker` has begun to trace before, and says what is wrong; Celery logs it and goes on."""
    if settings().log.format == "json":
        # It says that it stops in plain text, from its signal handler, between lines of JSON.
        vars(sys.modules["celery.apps.worker"])["safe_say"] = lambda *_, **__: None
    tracing.begin(settings(), "worker")


@beat_init.connect
def _trace_beat(**_: Any) -> None:
    tracing.begin(settings(), "beat")
