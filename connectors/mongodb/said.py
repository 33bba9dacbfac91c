"""Who wrote a document, as one of its fields says it.

MongoDB's log has no place for it beside the documents. So the server tells with each event whether it wrote the field:
an update that leaves the field as it is says nothing, as the one who is named there did not make it.
"""

from __future__ import annotations

import json
from typing import Final

from connectors.mongodb.conn import Document
from connectors.mongodb.extjson import document_text, string_at
from connectors.mongodb.identifiers import key_text
from connectors.mongodb.walk import Place

#: Where an event has the value.
SAID: Final = "said"
_DOCUMENT: Final = 0x03
_STRING: Final = 0x02
_NOTHING: Final = frozenset({0x06, 0x0A})


def said(field: str) -> Document:
    """The value of `field` as the event wrote it; nothing where it did not. Of a document of which an update wrote a
    part, what it wrote, unless the event has the whole."""
    inside = f"{field}."
    length = len(inside.encode())
    updated = {"$objectToArray": {"$ifNull": ["$updateDescription.updatedFields", {}]}}
    begins = {"$eq": [{"$substrBytes": [{"$concat": ["$$this.k", "."]}, 0, length]}, {"$literal": inside}]}
    wrote = {"$filter": {"input": updated, "cond": begins}}
    part = {"k": {"$substrBytes": ["$$this.k", length, -1]}, "v": "$$this.v"}
    whole = [_field(field, "$fullDocument"), _field(field, "$updateDescription.updatedFields")]
    value = {"$ifNull": [*whole, {"$arrayToObject": {"$map": {"input": wrote, "in": part}}}]}
    return {
        "$switch": {
            "branches": [
                {"case": {"$in": ["$operationType", ["insert", "replace"]]}, "then": whole[0]},
                {"case": {"$ne": [wrote, []]}, "then": value},
            ],
            "default": "$$REMOVE",
        }
    }


def _field(name: str, document: str) -> Document:
    return {"$getField": {"field": {"$literal": name}, "input": document}}


def context(data: bytes, place: Place) -> str:
    """The context's text: a document as it is, any other value as the actor; empty for null. Raises ValueError."""
    kind, at = place
    if kind in _NOTHING:
        return ""
    if kind == _DOCUMENT:
        return document_text(data, at)
    actor = string_at(data, at)[0] if kind == _STRING else key_text(kind, data, at)
    return json.dumps({"actor": actor})
