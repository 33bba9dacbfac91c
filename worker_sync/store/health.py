"""The latest results of the health check."""

from __future__ import annotations

from dataclasses import dataclass

from worker_sync.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Health:
    """One result: `subject` is `database:NAME`, `control` or `broker`; `ok` None means that it could not be asked.
    `latency_ms` is how long the answer took, `skew_s` how far the system's clock is ahead of the asking worker's (None:
    not asked), `age_s` how long ago that was by the store's clock."""

    subject: str
    ok: bool | None
    detail: str
    latency_ms: float | None
    age_s: float = 0.0
    skew_s: float | None = None


class HealthResults:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(
        self, subject: str, ok: bool | None, detail: str, latency_ms: float | None, skew_s: float | None = None
    ) -> None:
        """Replace the result for `subject`."""
        parameters = {"subject": subject, "ok": ok, "detail": detail, "latency_ms": latency_ms, "skew_s": skew_s}
        self._connection.run("put_health", parameters)

    def all(self) -> list[Health]:
        return [Health(**row) for row in self._connection.run("all_health")]
