"""The stream of a database's change events, put together to transactions.

A position is a cluster time, and all events of one time are one transaction: MongoDB gives every single write and
every multi-document transaction an oplog entry of its own. (In a sharded cluster two shards can commit at one time, and
only a later token tells that neither has more to come; sharded clusters are refused as sources.)

The end of a transaction is not marked. It has ended when an event of a later time comes, when the answer's token shows
a later time, or when the server has nothing more to say: it makes all events of an oplog entry before it looks for the
next entry, so an empty answer means that the last entry's events have all been delivered. To have that answer a
question is asked with the shortest wait.

The stream begins at the entry of `start` itself and leaves its events out, so that the first token, which only repeats
where the stream began, is not taken for progress.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from pymongo.database import Database
from pymongo.errors import PyMongoError

from connectors.base import Stream
from connectors.mongodb.change_cursor import SHORTEST_WAIT, Answer, ChangeCursor, comment_of, pipeline
from connectors.mongodb.conn import Document
from connectors.mongodb.errors import translated
from connectors.mongodb.events import Decoder, Event
from connectors.mongodb.images import Images
from connectors.mongodb.registration import Registration
from connectors.mongodb.transactions import Assembly
from worker_sync.core.change import Piece, Progress
from worker_sync.core.errors import Halt, Transient, WorkerSyncError

#: The server gives up a session, and its cursors with it, that nothing was asked in for 30 minutes.
REFRESH_SECONDS: Final = 60.0


class MongoStream(Stream):
    """Streams the transactions whose commit position is greater than `start`. Closing it closes the client."""

    def __init__(
        self,
        database: Database[Document],
        where: str,
        name: str,
        registration: Registration,
        start: str,
        context_field: str | None = None,
        gone: Sequence[str] = (),
    ) -> None:
        """`gone` are collections that were delivered before and that the database has no more."""
        self._database = database
        self._where = f"{where} stream {name}"
        self._over = ""
        self._halt: Halt | None = None
        self._reached = self._start = start
        collections = list(registration.collections)
        self._decoder = Decoder(name, collections, gone)
        self.schemas = self._decoder.schemas
        self._assembly = Assembly()
        self._session = database.client.start_session(causal_consistency=False)
        self._images = Images(database, self.schemas, gone)
        self._used_at = time.monotonic()
        self._cursor: ChangeCursor | None = None
        try:
            stages = pipeline(name, [*collections, *gone], start, context_field)
            with translated(self._where):
                self._cursor = ChangeCursor(database, self._session, stages, comment_of(database.name, name))
                # Only now does the server look whether it still has the log from there on.
                self._answer: Answer | None = self._cursor.ask(1, SHORTEST_WAIT)
        except BaseException:
            self.close()
            raise

    # Reading

    def read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        """See `Stream.read`. After an error the stream is over, and every further call says so."""
        if self._over:
            raise Transient(f"{self._where}: the stream ended: {self._over}")
        try:
            with translated(self._where):
                return self._read(timeout, limit)
        except WorkerSyncError as error:
            self._over = error.detail
            raise

    def _read(self, timeout: float, limit: int) -> list[Piece | Progress]:
        deadline = time.monotonic() + timeout
        while True:
            if self._halt is not None:
                raise self._halt
            left = deadline - time.monotonic()
            answer = self._next(limit, SHORTEST_WAIT if self._assembly.is_open else left)
            self._used_at = time.monotonic()
            self._take(answer, limit)
            out: list[Piece | Progress] = [*self._assembly.take()]
            if not answer.events and answer.commit > self._reached:
                self._reached = answer.commit
                out.append(Progress(answer.commit))
            if out or (self._used_at >= deadline and not self._assembly.is_open):
                return out

    def _next(self, limit: int, wait: float) -> Answer:
        answer, self._answer = self._answer, None
        assert self._cursor is not None
        return answer or self._cursor.more(limit, wait)

    def _take(self, answer: Answer, limit: int) -> None:
        events = self._decoded(answer)
        self._images.complete(events)
        for event in events:
            self._assembly.add(event, limit)
            self._reached = event.info.commit
        if self._halt is not None:
            # What can't be read may be part of the open transaction.
            if self._decoder.commit > self._reached:
                self._assembly.end()
        elif not answer.events or answer.commit > self._decoder.commit:
            self._assembly.end()

    def _decoded(self, answer: Answer) -> list[Event]:
        """The events behind the start; those before one that stops the stream are delivered first."""
        events = []
        for at in answer.events:
            try:
                event = self._decoder.decode(answer.data, at)
            except Halt as halt:
                if self._decoder.commit <= self._start:
                    continue
                self._halt = halt
                break
            if event.info.commit > self._start:
                events.append(event)
        return events

    # Keeping it alive

    def tick(self) -> None:
        if self._over or time.monotonic() - self._used_at < REFRESH_SECONDS:
            return
        if self._cursor is not None and self._cursor.is_asking:
            return
        with translated(self._where):
            self._database.client.admin.command("ping", session=self._session)
        self._used_at = time.monotonic()

    def confirm(self, commit: str) -> None:
        """MongoDB keeps its log by size and age; there is nobody to tell."""

    def close(self) -> None:
        self._over = self._over or "closed"
        try:
            if self._cursor is not None:
                self._cursor.close()
            self._session.end_session()
        except PyMongoError:
            # Broken, or closed before; the server gives the cursor up with its session.
            pass
        finally:
            self._database.client.close()
