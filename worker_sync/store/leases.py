"""Leases with fencing: at most one holder at a time by the server's clock, and a number that tells holders apart."""

from __future__ import annotations

from dataclasses import dataclass

from worker_sync.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it was acquired. `token` is greater than that of every earlier holder."""

    name: str
    holder: str
    token: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds a lease, and for how many seconds still."""

    name: str
    holder: str
    token: int
    left_s: float


class Leases:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self, name: str, holder: str, ttl_s: float, at_least: int = 0) -> Lease | None:
        """Take the lease for `ttl_s` seconds when it is free, expired, or held by `holder` already; None when somebody
        else holds it. The token exceeds `at_least` too: pass the highest one seen elsewhere (in watermarks), so that
        a control store which was set up anew doesn't hand out numbers that are fenced off already."""
        parameters = {"name": name, "holder": holder, "ttl_s": ttl_s, "at_least": at_least}
        row = self._connection.one("acquire_lease", parameters)
        return Lease(name, holder, row["token"], ttl_s) if row else None

    def renew(self, lease: Lease) -> bool:
        """Prolong the lease by its time to live from now; False when another has taken it."""
        parameters = {"name": lease.name, "holder": lease.holder, "token": lease.token, "ttl_s": lease.ttl_s}
        return self._connection.one("renew_lease", parameters) is not None

    def release(self, lease: Lease) -> None:
        """Let go at once; nothing happens when another has taken it."""
        parameters = {"name": lease.name, "holder": lease.holder, "token": lease.token}
        self._connection.run("release_lease", parameters)

    def holding(self, name: str) -> Holding | None:
        """Who holds the lease now."""
        row = self._connection.one("show_lease", {"name": name})
        return Holding(**row) if row else None
