"""Tasks that failed for good, as dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tasks.queues import BY_TASK
from worker_sync.core.secrets import HIDDEN, redact
from worker_sync.store.dead_letters import Letter, LetterKind

#: Characters of an error that are kept.
ERROR_LENGTH: Final = 2000
#: Secrets that are shorter would hide ordinary words.
_SHORTEST_SECRET: Final = 4


@dataclass(frozen=True, slots=True)
class Failed:
    """The message of a task: `id` is the message's, the same however often it was tried."""

    task: str
    id: str
    queue: str
    args: Sequence[Any] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)


def task_letter(failed: Failed, error: BaseException, attempts: int, trace: str, secrets: Iterable[str]) -> Letter:
    """The letter for a task that failed for good with `error` after so many tries."""
    return Letter(
        identity=f"task:{failed.id}",
        kind=LetterKind.TASK,
        payload=encode_arguments(failed.args, failed.kwargs),
        error_type=type(error).__name__,
        error=describe(error, secrets),
        attempts=attempts,
        queue=failed.queue,
        task=failed.task,
        trace=trace,
    )


def queue_of(task: str | None) -> str:
    """The queue in which the task is at home."""
    row = BY_TASK.get(task or "")
    return row.name if row else ""


def describe(error: BaseException, secrets: Iterable[str]) -> str:
    """The error's text as a letter may hold it: without passwords, without NUL, of a bounded length."""
    text = redact(str(error) or type(error).__name__).replace("\0", "")
    for secret in sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text[:ERROR_LENGTH]


def encode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments of a task as MessagePack; as JSON where a number is larger than MessagePack's."""
    arguments = {"args": list(args), "kwargs": dict(kwargs)}
    try:
        return msgspec.msgpack.encode(arguments)
    except OverflowError:
        return json.dumps(arguments).encode()


def decode_arguments(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Read back what `encode_arguments` wrote. Raises ValueError on anything else."""
    try:
        found = json.loads(payload) if payload.startswith(b"{") else msgspec.msgpack.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"the arguments can't be read: {error}") from None
    if not isinstance(found, dict) or set(found) != {"args", "kwargs"}:
        raise ValueError("the arguments can't be read: neither args nor kwargs")
    return found["args"], found["kwargs"]
