"""Partial updates of JSON columns (binlog_row_value_options=PARTIAL_JSON), applied to the row's old document.

A diff is: operation (1 byte), length and text of a path, and unless it removes, length and binary form of a value.
"""

from __future__ import annotations

import json
import re
from typing import Final

from connectors.mysql.binlog.events import malformed
from connectors.mysql.binlog.jsonb import Node, json_tree
from connectors.mysql.binlog.numbers import length_encoded

_REPLACE: Final = 0
_INSERT: Final = 1
_REMOVE: Final = 2
_STEP: Final = re.compile(r'\[(\d+)\]|\.("(?:[^"\\]|\\.)*")|\.([^.\["]+)', re.DOTALL)


def apply_diffs(document: Node, diffs: bytes) -> Node:
    """The document with the diffs applied in order; changes `document`. Raises Halt for what doesn't fit it."""
    at = 0
    try:
        while at < len(diffs):
            operation = diffs[at]
            length, at = length_encoded(diffs, at + 1)
            steps = _path(diffs[at : at + length].decode("utf-8"))
            at += length
            value = None
            if operation != _REMOVE:
                length, at = length_encoded(diffs, at)
                value, at = json_tree(diffs[at : at + length]), at + length
            document = _apply(document, operation, steps, value)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise malformed("a partial JSON update that doesn't fit its document") from error
    return document


def _path(text: str) -> list[str | int]:
    if not text.startswith("$"):
        raise ValueError(text)
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise ValueError(text)
        index, quoted, plain = step.groups()
        steps.append(int(index) if index is not None else json.loads(quoted, strict=False) if quoted else plain)
        at = step.end()
    return steps


def _apply(document: Node, operation: int, steps: list[str | int], value: Node) -> Node:
    if operation not in (_REPLACE, _INSERT, _REMOVE):
        raise ValueError(operation)
    if not steps:
        if operation == _REPLACE:
            return value
        raise ValueError("the root can only be replaced")
    parent = document
    for step in steps[:-1]:
        parent = parent[step]
    if not isinstance(parent, dict | list) or isinstance(parent, dict) != isinstance(steps[-1], str):
        raise TypeError("the path leads into something else")
    _change(parent, operation, steps[-1], value)
    return document


def _change(parent: Node, operation: int, step: str | int, value: Node) -> None:
    if operation == _REMOVE:
        del parent[step]
    elif operation == _REPLACE:
        parent[step]  # must be there
        parent[step] = value
    elif isinstance(parent, list):
        assert isinstance(step, int)
        parent.insert(step, value)
    else:
        if step in parent:
            raise ValueError("the member is there already")
        parent[step] = value
        # The server keeps members by length of name, then by its bytes.
        ordered = sorted(parent.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
        parent.clear()
        parent.update(ordered)
