"""What a beat does: be the one that leads, find what is due, claim it, send it, say that it was sent.

A claim is a row of (entry, time), so there is one run of an entry for one time, whoever claims it. What was claimed and
never said to be sent is sent by the next leader: a run is sent twice rather than lost. The claim then carries the new
leader's token, and a worker runs only the message whose token is the claim's (`tasks.scheduled`).
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kombu.exceptions import OperationalError

from beat_schedule import Entry, describe, rhythm
from worker_sync.core.errors import Fenced, Transient
from worker_sync.core.log import event
from worker_sync.store import ControlStore, NotInitialized
from worker_sync.store.held import HeldLease
from worker_sync.store.schedule import LEASE, Claim, RunStatus

log = logging.getLogger(__name__)

#: Seconds that the lease of the leading beat lasts without a renewal: a killed one is replaced after this and a look.
LEASE_S: Final = 5.0
#: Seconds between two looks of a beat that stands by.
STANDBY_S: Final = 0.5
#: Longest wait of a beat that leads, in seconds; also between two attempts to send.
LOOK_S: Final = 1.0
#: The kind of a beat's reports, and seconds between two of them.
BEAT: Final = "beat"
REPORT_S: Final = 5.0
SHORTEST_S: Final = 0.005
#: Missed times of a crontab that are recorded one by one, the newest ones.
RECORDED: Final = 1000


class Firing:
    """Fires entries by the control store's clock while it leads. `publish` returns once the broker has the message.
    `store` is closed with it.

    `ending` says whether the process is to end: what has begun is finished, no more is begun. What `describe_process`
    says is reported now and then.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        store: ControlStore,
        publish: Callable[[Claim, Entry], None],
        ending: Callable[[], bool] = lambda: False,
        lease_s: float = LEASE_S,
        describe_process: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._entries = dict(entries)
        self._rhythms = {name: rhythm(entry) for name, entry in entries.items()}
        self._store = store
        self._publish = publish
        self._ending = ending
        self._lease_s = lease_s
        self._describe_process = describe_process
        self._report_at = 0.0
        self._held: HeldLease | None = None
        self._announced = False
        #: Up to which time each entry's runs are claimed or were not missed; empty until this beat leads.
        self._accounted: dict[str, datetime] = {}
        self._next: dict[str, datetime] = {}

    def step(self) -> float:
        """Do what is due; returns the seconds until something is to be done again."""
        try:
            held = self._lead()
            wait = STANDBY_S if held is None else self._fire(held)
            self._report()
            return wait
        except Fenced as error:
            log.warning("another beat may fire: %s", error, extra=event("beat_fenced"))
            self._stand_down()
            return STANDBY_S
        except (Transient, NotInitialized) as error:
            log.warning("nothing can be fired: %s", error, extra=event("beat_retry"))
            return LOOK_S

    def close(self) -> None:
        """Let another beat lead at once."""
        self._stand_down()
        self._store.close()

    def _report(self) -> None:
        now = time.monotonic()
        if self._describe_process is not None and now >= self._report_at:
            host = socket.gethostname()
            self._store.reports.put(f"beat:{host}:{os.getpid()}", BEAT, host, self._describe_process())
            self._report_at = now + REPORT_S

    # -- one beat leads

    def _lead(self) -> HeldLease | None:
        if self._held is None:
            self._held = HeldLease.acquire(self._store, LEASE, self._lease_s)
            if self._held is None:
                self._stand_by()
                return None
        self._held.check()
        if not self._accounted and self._entries:
            self._begin(self._held)
        return self._held

    def _stand_by(self) -> None:
        if not self._announced:
            log.info("another beat fires; standing by", extra=event("beat_standby"))
            self._announced = True

    def _begin(self, held: HeldLease) -> None:
        rhythms = {name: describe(entry) for name, entry in self._entries.items()}
        self._next = {}
        self._accounted = self._store.schedule.register(rhythms, held.token)
        inherited = self._store.schedule.take_over(held.token)
        log.info("this beat fires", extra=event("beat_leads", token=held.token, inherited=inherited))
        self._announced = False

    def _stand_down(self) -> None:
        held, self._held = self._held, None
        self._accounted = {}
        if held is not None:
            held.release()

    # -- what is due

    def _fire(self, held: HeldLease) -> float:
        now, begun = self._store.now(), time.monotonic()
        for name in self._entries:
            if now >= self._next.get(name, now) and not self._ending():
                self._claim(held, name, now)
        unsent = self._send(held)
        due = min(self._next.values(), default=now + timedelta(seconds=LOOK_S))
        wait = (due - now).total_seconds() - (time.monotonic() - begun)
        return LOOK_S if unsent else min(max(wait, SHORTEST_S), LOOK_S)

    def _claim(self, held: HeldLease, name: str, now: datetime) -> None:
        entry, times = self._entries[name], self._rhythms[name]
        # Times of an interval that were missed mean nothing; those of a crontab are recorded.
        limit = 1 if entry.crontab is None else RECORDED
        due = times.until(self._accounted.get(name, now), now, limit)
        if due:
            *missed, newest = due
            held.check()
            if missed:
                extra = event("runs_skipped", entry=name, count=len(missed), caught_up=newest)
                log.warning("%s was missed %d times; only the newest is caught up", name, len(missed), extra=extra)
                self._store.schedule.skip(name, missed, entry.task, held.token)
            self._store.schedule.claim(name, newest, entry.task, held.token)
            self._accounted[name] = newest
        self._next[name] = times.after(now)

    # -- sending

    def _send(self, held: HeldLease) -> bool:
        """Send what is claimed; True when something could not be."""
        unsent = False
        for claim in self._store.schedule.claimed(held.token):
            if self._ending():
                break
            held.check()
            try:
                self._send_one(claim)
            except OperationalError as error:
                # The broker is away: the others would wait for it just as long.
                self._say_unsent(claim, error)
                return True
            except Exception as error:  # noqa: BLE001 - what is wrong with one entry must not stop the others
                self._say_unsent(claim, error)
                unsent = True
        return unsent

    def _send_one(self, claim: Claim) -> None:
        entry = self._entries.get(claim.entry)
        if entry is None:
            self._store.schedule.ended(claim, RunStatus.SKIPPED, "it left the schedule before it was sent")
            return
        self._publish(claim, entry)
        self._store.schedule.published(claim)

    def _say_unsent(self, claim: Claim, error: Exception) -> None:
        extra = event("run_unsent", entry=claim.entry, scheduled_for=claim.scheduled_for)
        log.warning("%s is sent again: %s: %s", claim.entry, type(error).__name__, error, extra=extra)
