"""Logging: text or JSON lines on standard error, each record with a machine word `action`, secrets hidden.

Modules log with `logging.getLogger(__name__)` and `extra=event("applied", pipeline=..., rows=...)`; only a program's
entry calls `configure`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TextIO

from worker_sync.core import spans
from worker_sync.core.secrets import HIDDEN, redact
from worker_sync.core.sections import Log

#: Celery reports every task at INFO in these, which would be most of the log and of a small task's time.
_CHATTY: Final = ("celery.app.trace", "celery.worker.strategy", "celery.beat", "kombu", "pymongo", "urllib3")
#: `data` is Celery's: the message's parts once more.
_CELERYS: Final = "data"
_OWN: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "action", "fields", _CELERYS}
#: Shorter secrets would hide ordinary words.
_SHORTEST: Final = 4


def event(action: str, **fields: Any) -> dict[str, Any]:
    """The `extra` of a log call: a stable word for machines, and what it is about."""
    return {"action": action, "fields": fields}


#: What this thread works on.
_subject: ContextVar[Mapping[str, Any]] = ContextVar("subject", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Until the end of the block every JSON line of this thread has these fields, unless it says them itself."""
    token = _subject.set({**_subject.get(), **fields})
    try:
        yield
    finally:
        _subject.reset(token)


class _Formatter(logging.Formatter):
    """Hides passwords in the finished text, so that no argument, traceback or field slips through."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record)

    def hidden(self, text: str) -> str:
        text = redact(text)
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class _Text(_Formatter):
    def _line(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        trace = self._trace(record)
        line = f"{at} {record.levelname.lower():<7} {record.getMessage()}{' |' + fields if fields else ''}"
        return self.hidden(f"{line}\n{trace}" if trace else line)


class _Json(_Formatter):
    def _line(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subject.get(),
            **_trace_ids(),
            **_fields(record),
        }
        if trace := self._trace(record):
            line["trace"] = trace
        # Before encoding: escapes in the JSON text would take a secret's shape away.
        return json.dumps({name: self._value(value) for name, value in line.items()}, default=str, ensure_ascii=False)

    def _value(self, value: Any) -> Any:
        return value if isinstance(value, int | float) or value is None else self.hidden(str(value))


def _trace_ids() -> dict[str, str]:
    """The open span, as who looks for it in a trace's view writes it."""
    found = spans.ids()
    return {} if found is None else dict(zip(("trace_id", "span_id"), found, strict=True))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    action = getattr(record, "action", None)
    fields = {"action": action} if action else {}
    fields |= getattr(record, "fields", {})
    return fields | {name: value for name, value in vars(record).items() if name not in _OWN}


def configure(log: Log, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send this process's log to standard error (or `stream`); replaces what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(secrets) if log.format == "json" else _Text(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = log.level.upper()
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else max(logging.WARNING, root.level))
    logging.captureWarnings(True)
