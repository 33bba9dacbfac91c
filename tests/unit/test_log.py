"""Log lines: their form, and what never stands in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from worker_sync.capture.background import Background
from worker_sync.core import log
from worker_sync.core.sections import Log

logger = logging.getLogger("tests.log")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(False)


def written(form: Literal["text", "json"], level: Literal["info", "warning"] = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(Log(format=form, level=level), ["s3cret-token"], stream)
    return stream


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_is_never_printed(form: Literal["text", "json"]) -> None:
    stream = written(form)
    logger.info("connecting to %s", "postgresql://u:hunter2@h/d", extra=log.event("connect", url="redis://:hunter2@r"))
    logger.info("token s3cret-token", extra={"nested": {"token": "s3cret-token"}})
    try:
        raise ValueError("mongodb://u:hunter2@h refused s3cret-token")
    except ValueError:
        logger.exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "s3cret-token" not in stream.getvalue()


def test_a_json_line_has_the_action_and_its_fields() -> None:
    stream = written("json")
    logger.warning("%d rows", 3, extra=log.event("applied", pipeline="a-to-b", rows=3))
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "tests.log",
        "message": "3 rows",
        "action": "applied",
        "pipeline": "a-to-b",
        "rows": 3,
    }


def test_a_text_line_reads_as_prose_with_fields_behind() -> None:
    stream = written("text")
    logger.info("applied", extra=log.event("applied", rows=3))
    assert stream.getvalue().endswith("info    applied | action=applied rows=3\n")


def test_lines_below_the_level_are_left_out() -> None:
    stream = written("text", "warning")
    logger.info("quiet")
    assert stream.getvalue() == ""


def test_json_lines_of_a_thread_say_what_it_is_about_until_that_ends() -> None:
    stream = written("json")
    with log.about(source="shop"), log.about(pipeline="a-to-b", shard=0):
        logger.info("one", extra=log.event("retry", pipeline="its-own"))
    logger.info("two")
    one, two = map(json.loads, stream.getvalue().splitlines())
    assert (one["source"], one["pipeline"], one["shard"], one["action"]) == ("shop", "its-own", 0, "retry")
    assert two.keys() == {"time", "level", "logger", "message"}


def test_what_a_thread_is_about_it_tells_the_helpers_that_it_makes() -> None:
    stream = written("json")

    class Helper(Background):
        def work(self) -> None:
            logger.info("at work")

    with log.about(source="shop"):
        helper = Helper("helper")
    helper.start()
    helper.stop()
    assert json.loads(stream.getvalue())["source"] == "shop"
