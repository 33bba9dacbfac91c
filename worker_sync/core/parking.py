"""Keys whose changes are parked in dead letters, as text.

A key as text is a JSON array of its parts, bytes as ``{"bytes": HEX}``: the same key is always the same text.
"""

from __future__ import annotations

import json
from typing import Any

from worker_sync.core.values import Key


def key_text(key: Key) -> str:
    """The key as JSON, as letters and signals hold it."""
    return _dump([_encoded(part) for part in key])


def parse_key(text: str) -> Key:
    """Read back what `key_text` wrote. Raises ValueError on anything else."""
    parts = json.loads(text)
    if not isinstance(parts, list):
        raise ValueError(f"not a key: {text!r} (expected a JSON array of its parts)")
    return tuple([_decoded(part) for part in parts])


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _encoded(part: Any) -> Any:
    return {"bytes": part.hex()} if isinstance(part, bytes) else part


def _decoded(part: Any) -> Any:
    if isinstance(part, dict):
        if set(part) != {"bytes"} or not isinstance(part["bytes"], str):
            raise ValueError('a part of a key is an object that is not {"bytes": HEX}')
        return bytes.fromhex(part["bytes"])
    if isinstance(part, list):
        raise ValueError("a part of a key is an array")
    return part
