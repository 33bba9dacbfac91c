"""A worker process reports from its start on, not from its first task: an idle worker is there, too."""

from __future__ import annotations

from typing import Any

from celery.signals import celeryd_after_setup, worker_process_init, worker_ready

from tasks import reporter
from tasks.resources import resources


@celeryd_after_setup.connect
def _remember_queues(instance: Any, **_: Any) -> None:
    """Before the pool's processes are forked."""
    reporter.QUEUES[:] = sorted(instance.app.amqp.queues.consume_from)


@worker_process_init.connect
def _in_a_child(**_: Any) -> None:
    resources().report()


@worker_ready.connect
def _in_the_main_process(sender: Any, **_: Any) -> None:
    """Where that runs the tasks. A prefork pool's children to come would inherit its connection."""
    if not sender.controller.pool_cls.__module__.endswith("prefork"):
        resources().report()
