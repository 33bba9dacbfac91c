"""Answers with documents, left as the bytes that came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from connectors.mongodb.conn import RAW, Document
from connectors.mongodb.extjson import INT64
from connectors.mongodb.walk import Place, documents, fields


def ask(database: Database[Document], session: ClientSession, command: Document) -> tuple[bytes, dict[bytes, Place]]:
    """Run a command that answers with a cursor: the answer, and where the fields of its cursor are."""
    options: Any = RAW
    reply = cast(RawBSONDocument, database.command(command, session=session, codec_options=options))
    data = bytes(reply.raw)
    return data, fields(data, fields(data)[b"cursor"][1])


def found(database: Database[Document], session: ClientSession, command: Document) -> Iterator[tuple[bytes, int]]:
    """All documents that a `find` command finds: what they lie in, and their offsets there."""
    data, cursor = ask(database, session, command)
    yield from ((data, at) for at in documents(data, cursor[b"firstBatch"][1]))
    while identifier := INT64(data, cursor[b"id"][1])[0]:
        data, cursor = ask(database, session, {"getMore": identifier, "collection": command["find"]})
        yield from ((data, at) for at in documents(data, cursor[b"nextBatch"][1]))
