"""The BSON types as a part of the type matrix: see `connectors.matrix`.

A collection's rows are `_id` and document, so each type is one inside a document.
"""

from __future__ import annotations

from typing import Final

from connectors.matrix import Extreme, SourceType
from connectors.mongodb.collections import DOCUMENT_TYPE

_DEEP: Final = frozenset({Extreme.DEPTH_31, Extreme.DEPTH_100})

#: In the words of `$type`.
SOURCE_TYPES: Final = tuple(
    SourceType(name, DOCUMENT_TYPE, _DEEP if name in ("object", "array") else frozenset())
    for name in (
        "double", "string", "object", "array", "binData", "objectId", "bool", "date", "null", "regex", "javascript",
        "javascriptWithScope", "int", "timestamp", "long", "decimal", "minKey", "maxKey",
    )
)  # fmt: skip
