"""The cursor of a change stream, by commands whose answers are left as bytes.

The driver's own change stream makes an object of every event and resumes by itself after a cursor was killed, which
would let a reader that was cut off go on.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure

from connectors.mongodb.cluster import time_of
from connectors.mongodb.collections import STREAMS
from connectors.mongodb.conn import Document
from connectors.mongodb.errors import TOO_LARGE
from connectors.mongodb.extjson import string_at
from connectors.mongodb.raw import ask
from connectors.mongodb.said import SAID, said
from connectors.mongodb.walk import Place, documents, fields
from worker_sync.core.errors import Halt, State

#: The name that cursors on a whole database go by.
NAMESPACE: Final = "$cmd.aggregate"
#: The document before a change is left out where both together take more bytes: an event may have 16 MB.
BOTH_IMAGES_BYTES: Final = 15_000_000
#: How long closing waits for the server, in seconds.
CLOSE_SECONDS: Final = 2.0
#: How long to wait for the end of readers that were cut off, and between two looks, in seconds.
CUT_OFF_SECONDS: Final = 5.0
CUT_OFF_POLL: Final = 0.02
#: The shortest wait that the server knows, in seconds.
SHORTEST_WAIT: Final = 0.001
#: The type byte of a timestamp in MongoDB's KeyString format (src/mongo/db/storage/key_string.cpp: kTimestamp = 130),
#: as hex: a resume token's `_data` begins with it and the cluster time, eight bytes with the highest first.
_TOKEN_BEGINS: Final = "82"


@dataclass(frozen=True, slots=True)
class Answer:
    """Events by their offsets in `data`. The log was read up to `commit`; with no events, to the end of that entry."""

    data: bytes
    events: list[int]
    commit: str


def comment_of(database: str, name: str) -> str:
    """What marks the cursors of a stream in the server's list of operations."""
    return f"worker-sync stream {name} of {database}"


def pipeline(name: str, collections: list[str], start: str, context_field: str | None = None) -> list[Document]:
    """The stages of a stream; it delivers from the entry at `start` on. Events that wrote the documents' field
    `context_field` have its value in SAID."""
    ours = {"$in": collections}
    wanted = [
        {"ns.coll": ours},
        {"to.coll": ours},
        {"ns.coll": STREAMS, "documentKey._id.s": name},
        {"ns.coll": STREAMS, "operationType": {"$in": ["drop", "rename"]}},
        {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
    ]
    sizes = [{"$ifNull": [{"$bsonSize": f"${image}"}, 0]} for image in ("fullDocument", "fullDocumentBeforeChange")]
    too_large = {"$gt": [{"$add": sizes}, BOTH_IMAGES_BYTES]}
    images = {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"}
    kept: Document = {
        "updateDescription": "$$REMOVE",
        "fullDocumentBeforeChange": {"$cond": [too_large, "$$REMOVE", "$fullDocumentBeforeChange"]},
    }
    if context_field is not None:
        kept[SAID] = said(context_field)
    return [
        {"$changeStream": {"startAtOperationTime": time_of(start), **images}},
        {"$match": {"$or": wanted}},
        {"$set": kept},
    ]


class ChangeCursor:
    """An open cursor, for one thread at a time. Raises the driver's errors.

    Behind a full answer the next one is asked for at once, by a thread of the cursor's own: the server works on it
    while the first is decoded.
    """

    def __init__(
        self, database: Database[Document], session: ClientSession, stages: list[Document], comment: str
    ) -> None:
        self._database = database
        self._session = session
        command = {"aggregate": 1, "pipeline": stages, "cursor": {"batchSize": 0}, "comment": comment}
        self._id = database.command(command, session=session)["cursor"]["id"]
        self._executor = ThreadPoolExecutor(1, "worker-sync-change-cursor")
        self._ahead: Future[Answer] | None = None

    @property
    def is_asking(self) -> bool:
        """Whether the session is in use."""
        return self._ahead is not None and not self._ahead.done()

    def more(self, limit: int, seconds: float) -> Answer:
        """Up to `limit` events (or the limit of before), as soon as there is one; none after `seconds`."""
        ahead, self._ahead = self._ahead, None
        answer = self.ask(limit, seconds) if ahead is None else ahead.result()
        if len(answer.events) >= limit:
            self._ahead = self._executor.submit(self.ask, limit, SHORTEST_WAIT)
        return answer

    def ask(self, limit: int, seconds: float) -> Answer:
        """The same without asking ahead."""
        command = {
            "getMore": self._id,
            "collection": NAMESPACE,
            "batchSize": limit,
            "maxTimeMS": max(1, round(seconds * 1000)),
        }
        try:
            return _answer(*ask(self._database, self._session, command))
        except OperationFailure as error:
            if error.code == TOO_LARGE:
                raise _too_large() from None
            raise

    def close(self) -> None:
        """Ends what is under way, too: at once, or when the client is closed."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with pymongo.timeout(CLOSE_SECONDS):
            kill(self._database, [self._id])
        if self._ahead is not None:
            wait([self._ahead], CLOSE_SECONDS)


def _too_large() -> Halt:
    """The document after a change can't be so large: its key, which events repeat, must be."""
    detail = "an event is larger than MongoDB's 16 MB, so the server can't deliver it"
    recovery = "leave the collection with such _ids out, or delete them; then worker-sync resync PIPELINE"
    return Halt(State.UNREPRESENTABLE_VALUE, detail, recovery)


def _answer(data: bytes, cursor: dict[bytes, Place]) -> Answer:
    token = string_at(data, fields(data, cursor[b"postBatchResumeToken"][1])[b"_data"][1])[0]
    if not token.startswith(_TOKEN_BEGINS):
        raise Halt(State.UNKNOWN_MESSAGE, "a resume token of another form", "upgrade Worker-Sync, then resume PIPELINE")
    return Answer(data, documents(data, cursor[b"nextBatch"][1]), token[2:18].lower())


def readers(database: Database[Document], name: str) -> list[int]:
    """The ids of the stream's open cursors, idle or at work."""
    stages: list[Document] = [
        {"$currentOp": {"idleCursors": True, "allUsers": False}},
        {"$match": {"cursor.originatingCommand.comment": comment_of(database.name, name)}},
        {"$project": {"cursor.cursorId": 1}},
    ]
    return [operation["cursor"]["cursorId"] for operation in database.client.admin.aggregate(stages)]


def cut_off(database: Database[Document], name: str) -> None:
    """End all of the stream's cursors; returns once they are gone, or the attempt was in vain."""
    deadline = time.monotonic() + CUT_OFF_SECONDS
    while (cursors := readers(database, name)) and time.monotonic() < deadline:
        kill(database, cursors)
        time.sleep(CUT_OFF_POLL)


def kill(database: Database[Document], cursors: list[int]) -> None:
    if cursors:
        database.command({"killCursors": NAMESPACE, "cursors": cursors})
