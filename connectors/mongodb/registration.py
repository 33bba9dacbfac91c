"""A stream's place in its source database: one document in the collection `worker_sync_stream`, and one for messages.

MongoDB has no slots: the server keeps its oplog by size and age, whoever needs it. What a stream is (where it began,
which collections it delivers) is written down here, `_id` {s: stream}; the messages of a prefix replace one another in
the document {s: stream, m: prefix}, so the collection does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bson.binary import Binary
from bson.objectid import ObjectId
from pymongo.client_session import ClientSession
from pymongo.database import Database

from connectors.mongodb.cluster import end_of_log, next_commit
from connectors.mongodb.collections import STREAMS
from connectors.mongodb.conn import Document


@dataclass(frozen=True, slots=True)
class Registration:
    """A stream as it was created: it delivers the changes of `collections` that were committed after `start`."""

    start: str
    collections: tuple[str, ...]


def find(database: Database[Document], name: str) -> Registration | None:
    document = database[STREAMS].find_one({"_id": {"s": name}})
    return None if document is None else Registration(document["start"], tuple(document["collections"]))


def register(database: Database[Document], name: str, collections: list[str]) -> Registration:
    """Create the stream from here on, or give an existing one these collections."""
    with database.client.start_session(causal_consistency=False) as session:
        start = end_of_log(database, session)
    change = {"$set": {"collections": collections}, "$setOnInsert": {"start": start}}
    # With a majority behind this write, what was before it can't be rolled back either.
    database[STREAMS].update_one({"_id": {"s": name}}, change, upsert=True)
    found = find(database, name)
    assert found is not None
    return found


def remove(database: Database[Document], name: str) -> None:
    database[STREAMS].delete_many({"_id.s": name})


def send(database: Database[Document], name: str, prefix: str, content: bytes) -> str:
    """Write a message into the log; the first position behind all that was committed before, which is not behind the
    message's own: times are whole numbers, and the message's is later than the end of the log was."""
    with database.client.start_session(causal_consistency=False) as session:
        before = end_of_log(database, session)
    put(database, name, prefix, content)
    return next_commit(before)


def put(
    database: Database[Document], name: str, prefix: str, content: bytes, session: ClientSession | None = None
) -> None:
    """A whole document in the place of the old one, and never the same: the log holds it in full."""
    identifier: dict[str, Any] = {"s": name, "m": prefix}
    document = {"content": Binary(content), "nonce": ObjectId()}
    database[STREAMS].replace_one({"_id": identifier}, document, upsert=True, session=session)
