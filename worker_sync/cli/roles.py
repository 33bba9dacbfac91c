"""One role of a deployment in this process: `capture`, `worker`, `beat`, `exporter`, `flower`."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from beat_schedule import schedule
from worker_sync import tracing
from worker_sync.cli.options import configured, listening, state
from worker_sync.cli.up import stopping_on_signals
from worker_sync.composition import flower as flowers
from worker_sync.composition.workspace import Workspace
from worker_sync.core import log
from worker_sync.core.alive import Alive, Pulse
from worker_sync.core.errors import Transient
from worker_sync.core.settings import Settings

if TYPE_CHECKING:
    from tasks.queues import Pool, PoolName

_log = logging.getLogger(__name__)


def _begin(ctx: click.Context, role: str = "") -> Settings:
    """The settings, with the log as they say; a role that traces begins to."""
    settings = state(ctx).settings()
    log.configure(settings.log, settings.secrets())
    if role:
        tracing.begin(settings, role)
    return settings


def _require_store(space: Workspace) -> None:
    """Nothing can be done before `worker-sync init`; a store that is away comes back. Over a connection that is closed
    again: a worker's children would inherit it."""
    with contextlib.suppress(Transient), space.store.another() as store:
        store.require()


@click.command(epilog="\b\nExamples:\n  worker-sync capture shop\n  worker-sync capture shop --stay")
@configured
@click.argument("name")
@click.option("--stay", is_flag=True, help="Wait in a named state, and go on after the recovery command.")
@click.pass_context
def capture(ctx: click.Context, name: str, stay: bool) -> int:
    """Capture the changes of the source database NAME until SIGTERM.

    A second one for the same source stands by until the first is gone. Exit code 1 when the source stands in a named
    state, which `worker-sync status` explains; with --stay it waits there for a person.
    """
    from worker_sync.capture import run

    settings = _begin(ctx, role="capture")
    settings.database(name)
    with Alive("capture", name) as alive, Workspace(settings) as space:
        _require_store(space)
        stop = Pulse(alive)
        with stopping_on_signals(stop.set):
            return run(space.settings, name, stop, stay=stay)


@click.command(epilog="\b\nExamples:\n  worker-sync worker\n  worker-sync worker --queues sync,default")
@configured
@click.option("--queues", help="Queues to work on, separated by commas (default: all).")
@click.option("--name", help="The worker's name before the @ (default: worker-PID).")
@click.option("--grace", type=click.FloatRange(min=0.1), help="Seconds from SIGTERM to the handing back (default: 10).")
@click.option("--pool", type=click.Choice(["solo", "prefork", "threads"]), help="Instead of the configuration's.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Tasks at a time, instead of the configuration's.")
@click.pass_context
def worker(
    ctx: click.Context,
    queues: str | None,
    name: str | None,
    grace: float | None,
    pool: PoolName | None,
    concurrency: int | None,
) -> int:
    """Work on the queues until SIGTERM; what is unfinished at the end of the grace is handed back.

    The same as `celery -A tasks.app worker` with the pool of the configuration: a worker of one queue has that queue's
    (`workers`), one of several that of `worker`.
    """
    from tasks.queues import changed, pool_for

    arguments = [
        "--quiet",
        "worker",
        "--without-gossip",
        "--without-mingle",
        f"--hostname={name or f'worker-{os.getpid()}'}@%h",
    ]
    if queues:
        arguments.append(f"--queues={queues}")
    names = [name.strip() for name in queues.split(",")] if queues else None
    chosen = changed(pool_for(names, state(ctx).settings()), pool, concurrency)
    return _celery(ctx, arguments, pool_options(chosen), grace, role="worker")


def pool_options(pool: Pool) -> dict[str, Any]:
    """The pool in Celery's words."""
    return {
        "worker_pool": pool.pool,
        "worker_concurrency": pool.concurrency,
        # In KiB.
        "worker_max_memory_per_child": pool.max_memory_mb * 1024 if pool.max_memory_mb else None,
        "worker_max_tasks_per_child": pool.max_tasks,
    }


@click.command(epilog="\b\nExamples:\n  worker-sync beat")
@configured
@click.pass_context
def beat(ctx: click.Context) -> int:
    """Send the scheduled tasks until SIGTERM; the same as `celery -A tasks.app beat`.

    Run one or more: one sends, the others stand by and replace it within seconds. Exit code 2 when the schedule is
    wrong.
    """
    schedule(_begin(ctx))
    return _celery(ctx, ["--quiet", "beat", "--pidfile="], role="beat")


@click.command(epilog="\b\nExamples:\n  worker-sync flower")
@configured
@listening
@click.pass_context
def flower(ctx: click.Context, host: str | None, port: int | None) -> int:
    """Show workers and tasks in the browser: `celery -A tasks.app flower` with what `flower` in the configuration says.

    Exit code 2 when it would listen on an address of others and ask nobody for a password.
    """
    settings = state(ctx).settings().flower
    options = flowers.options(settings, host or settings.host, settings.port if port is None else port)
    os.environ.update(flowers.variables(settings))
    return _celery(ctx, ["flower", *options])


def _celery(
    ctx: click.Context,
    arguments: Sequence[str],
    conf: Mapping[str, Any] | None = None,
    grace_s: float | None = None,
    role: str = "",
) -> int:
    with Workspace(_begin(ctx, role)) as space:
        if role:
            _require_store(space)
        # Imported here: it tells Celery's process library, once, what SIGTERM means.
        from tasks import configuration, handing_back
        from tasks.app import app

        configuration.configure(space.settings)
        handing_back.at_the_end(space.close)
        app.conf.update(conf or {})
        if grace_s is not None:
            handing_back.set_grace(grace_s)
        # Typed as if it returned nothing; it is the exit code, if the command says one.
        start: Callable[[list[str]], int | None] = app.start
        return start(list(arguments)) or 0


@click.command(epilog="\b\nExamples:\n  worker-sync exporter\n  curl -s http://127.0.0.1:9808/metrics")
@configured
@listening
@click.pass_context
def exporter(ctx: click.Context, host: str | None, port: int | None) -> int:
    """Serve /metrics and /healthz until SIGTERM."""
    from tasks.ledger import ledger_url
    from tasks.queues import NAMES
    from tasks.rabbitmq import DEAD_LETTERS
    from worker_sync.exporter import Collector, MetricsServer
    from worker_sync.exporter.begun import begun
    from worker_sync.exporter.ledger import LedgerWatch
    from worker_sync.exporter.queues import queues_of

    settings = _begin(ctx)
    stop = threading.Event()
    with Alive("exporter") as alive, Workspace(settings) as space, stopping_on_signals(stop.set):
        _require_store(space)
        assert space.settings.broker is not None
        depths = queues_of(space.settings.broker, (*NAMES, DEAD_LETTERS.name), lambda: begun(space.store))
        ledger = LedgerWatch(ledger_url(space.settings)) if settings.audit else None
        collector = Collector(space.settings, space.store, depths, ledger)
        address = host or settings.exporter.host, settings.exporter.port if port is None else port
        with MetricsServer(collector, *address, space.store.ping, alive.say) as server:
            _log.info("serving %s/metrics", server.url, extra=log.event("serving", url=server.url))
            stop.wait()
        depths.close()
        if ledger is not None:
            ledger.close()
    return 0
