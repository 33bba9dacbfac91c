"""Celery accepts misspelt settings, options and task names in silence, so they are compared here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten

from beat_schedule import CONCERNS, schedule
from tasks import app as application
from tasks.base import DisposedTask
from tasks.celeryconfig import celery_settings
from tasks.configuration import configure, forget
from tasks.queues import BY_TASK, NAMES, QUEUES, pool_of
from tasks.redis import VISIBILITY_S
from tasks.retry import REQUEST, TRANSIENT
from worker_sync.core.sections import Audit, Queue, Schedule
from worker_sync.core.settings import Settings, parse


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    data = {
        "control": "postgresql://db/ws",
        "broker": "redis://127.0.0.1/0",
        "databases": {"a": {"url": "memory://a"}, "b": {"url": "memory://b"}},
        "pipelines": {"a-to-b": {"source": "a", "target": "b", "tables": ["*"]}},
    }
    settings = parse(data, where="test", folder=Path("/nowhere"))
    configure(settings)
    yield settings
    forget()


@pytest.fixture(scope="module")
def app(settings: Settings) -> Celery:
    application.app.loader.import_default_modules()
    return application.app


def own(app: Celery) -> dict[str, Any]:
    # Tests register tasks of theirs with the same application.
    return {name: task for name, task in app.tasks.items() if type(task).__module__.startswith("tasks.")}


def test_every_setting_is_one_that_celery_knows(settings: Settings) -> None:
    known = {option[0] for option in flatten(NAMESPACES)}
    assert set(celery_settings(settings)) - known == set()


def test_every_task_is_in_the_queue_table_and_the_other_way_round(app: Celery) -> None:
    assert set(own(app)) == set(BY_TASK)


def test_every_task_sorts_its_errors_by_disposition(app: Celery) -> None:
    assert [name for name, task in own(app).items() if not isinstance(task, DisposedTask)] == []


def test_a_task_is_in_one_queue_and_a_queue_stands_once() -> None:
    assert len(BY_TASK) == sum(len(row.tasks) for row in QUEUES)
    assert len(set(NAMES)) == len(NAMES)


def test_every_schedule_entry_names_a_task(app: Celery) -> None:
    named = {entry.task for entries in CONCERNS for entry in entries.values()}
    assert named - set(own(app)) == set()


def test_every_task_that_nobody_else_sends_is_scheduled(app: Celery) -> None:
    """Batches come from captures (TRANSIENT), requests from people (REQUEST); all else would never run."""
    scheduled = {entry.task for entries in CONCERNS for entry in entries.values()}
    by_itself = {name for name, task in own(app).items() if task.policy not in (TRANSIENT, REQUEST)}
    assert by_itself == scheduled
    maintenance = {task for task, row in BY_TASK.items() if row.name == "cleanup" or task.startswith("cleanup.")}
    assert maintenance <= scheduled


def test_every_entry_can_be_given_another_time_or_be_switched_off(settings: Settings) -> None:
    audited = settings.model_copy(update={"audit": {"a": Audit.model_construct(tables=())}})
    names = {name for entries in CONCERNS for name in entries}
    assert set(schedule(audited)) == names
    for name in names:
        changed = schedule(audited.model_copy(update={"schedules": {name: Schedule(every_s=77)}}))
        assert (changed[name].every_s, changed[name].crontab) == (77, None)
        assert set(schedule(audited.model_copy(update={"schedules": {name: Schedule(enabled=False)}}))) == names - {
            name
        }


def test_a_schedule_entry_that_the_configuration_changes_names_a_task(app: Celery) -> None:
    beats = app.conf.beat_schedule
    assert {entry["task"] for entry in beats.values()} - set(own(app)) == set()
    assert {key for entry in beats.values() for key in entry} <= {"task", "schedule", "args", "kwargs", "options"}
    known = {"expires", "queue", "priority", "countdown"}
    assert {key for entry in beats.values() for key in entry.get("options", {})} - known == set()


def test_every_task_declares_its_policy(app: Celery) -> None:
    assert [name for name, task in own(app).items() if "policy" not in vars(type(task))] == []


def test_only_what_is_sent_again_anyway_is_never_parked(app: Celery) -> None:
    assert {name for name, task in own(app).items() if not task.parked} == {
        "audit.append",
        "sync.apply",
        "sync.heartbeat",
        "health.check",
    }


def test_a_policy_is_bounded_in_tries_and_in_seconds(app: Celery) -> None:
    policies = {name: task.policy for name, task in own(app).items()}
    assert [name for name, policy in policies.items() if policy.attempts > 1000 or policy.budget_s > 86_400] == []
    assert [name for name, policy in policies.items() if policy.attempts and not policy.jitter] == []


def test_every_task_option_is_one_that_celery_or_the_base_knows(app: Celery) -> None:
    """A decorator's keyword becomes an attribute of the task's class, whatever it is called."""
    options = {(name, option) for name, task in own(app).items() for option in vars(type(task))}
    known = set(dir(DisposedTask)) | {option for option, _ in DisposedTask.from_config}
    # What the decorator adds by itself.
    known |= {"_decorated", "_decorated_fun", "__wrapped__", "__header__"}
    assert {(name, option) for name, option in options if option not in known} == set()


def test_every_annotation_is_of_a_task_and_an_option(app: Celery) -> None:
    annotations = app.conf.task_annotations
    assert set(annotations) - set(own(app)) == set()
    assert {option for values in annotations.values() for option in values} - set(dir(DisposedTask)) == set()


def test_every_queue_has_a_pool_that_can_do_what_its_limits_say(settings: Settings) -> None:
    assert set(get_args(Queue)) == set(NAMES)
    for row in QUEUES:
        pool_of(row.name, settings)  # raises for limits that the pool can't keep


def test_no_task_may_run_for_so_long_that_redis_delivers_it_again(app: Celery) -> None:
    longest_delay = max(task.policy.cap_s for task in own(app).values())
    assert max(row.time_limit_s for row in QUEUES) + longest_delay < VISIBILITY_S


def test_every_task_has_a_docstring(app: Celery) -> None:
    assert [name for name, task in own(app).items() if not (task.__doc__ or "").strip()] == []
