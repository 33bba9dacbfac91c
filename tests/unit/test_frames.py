"""What is kept of a task that was not done: nothing, once Celery has dealt with its error."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.app.trace import build_tracer

from tasks.base import DisposedTask, Early
from tasks.retry import Policy
from worker_sync.core.errors import Shutdown


class Batch:
    """Stands for what a task has decoded."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nobody refers to is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(("error", "state"), [(Early, "RETRY"), (Shutdown, "REJECTED")])
@pytest.mark.usefixtures("no_collector")
def test_a_task_that_comes_again_leaves_nothing_to_the_collector(error: type[Exception], state: str) -> None:
    app = Celery("frames", broker="memory://", set_as_current=False)
    batches: list[weakref.ref[Batch]] = []

    @app.task(name="frames.fails", base=DisposedTask, policy=Policy(1, 0.0, 0.0, 60.0), shared=False)
    def fails() -> None:
        batch = Batch()
        batches.append(weakref.ref(batch))
        raise error("not now")

    trace = build_tracer(fails.name, fails, app=app)
    done = trace("one", [], {}, {"id": "one", "delivery_info": {}, "called_directly": False})
    assert done.info is not None
    assert done.info.state == state
    del done
    assert [batch() for batch in batches] == [None]
