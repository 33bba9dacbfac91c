"""Fixtures come as plugins, one per server; servers start when the first test asks for them."""

from __future__ import annotations

import signal

import hypothesis

from tests.fixtures.servers import end_leftovers, in_ci

# How long an example takes on a machine that others use, too, says nothing of it.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

pytest_plugins = [
    "tests.fixtures.fix_mongodb",
    "tests.fixtures.fix_mysql",
    "tests.fixtures.fix_postgres",
    "tests.fixtures.fix_prometheus",
    "tests.fixtures.fix_proxy",
    "tests.fixtures.fix_rabbitmq",
    "tests.fixtures.fix_redis",
    "tests.fixtures.fix_s3",
]


def pytest_report_header() -> str:
    return f"a missing server {'fails its tests (CI)' if in_ci() else 'skips its tests'}"


def pytest_sessionstart() -> None:
    # A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end_leftovers()
