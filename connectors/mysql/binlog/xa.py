"""XA transactions of two phases: their rows stand in the log before what decides about them.

They can't be followed yet. Only those may be passed over that hold nothing for us.
"""

from __future__ import annotations

import re
from typing import Final

from worker_sync.core.errors import Halt, State

_RESYNC: Final = "worker-sync resync PIPELINE"
#: How the server writes a transaction's name.
_NAME: Final = re.compile(rb"X'([0-9a-fA-F]*)',X'([0-9a-fA-F]*)',(\d+)")


class TwoPhase:
    """The prepared transactions that hold nothing for us."""

    def __init__(self) -> None:
        self._prepared: set[bytes] = set()

    def prepare(self, body: bytes, *, ours: bool) -> None:
        """An XA_PREPARE event ended a transaction's rows; raises Halt when some of them are `ours`."""
        if ours:
            raise Halt(
                State.UNKNOWN_MESSAGE,
                "a transaction of two phases (XA PREPARE) changed a captured table, which can't be followed yet",
                f"end it, keep XA transactions from the captured tables, then {_RESYNC}",
            )
        self._prepared.add(_name(body))

    def decide(self, text: bytes) -> None:
        """XA COMMIT or XA ROLLBACK. Raises Halt for the commit of a transaction whose rows were not seen."""
        if text[:11].upper() == b"XA ROLLBACK":
            return
        found = _NAME.search(text)
        name = b"%s,%s,%s" % (found[1].lower(), found[2].lower(), found[3]) if found else b""
        if name not in self._prepared:
            detail = "an XA transaction was committed whose rows stand before where the stream began"
            raise Halt(State.UNKNOWN_MESSAGE, detail, _RESYNC)
        self._prepared.discard(name)


def _name(body: bytes) -> bytes:
    """The name in an XA_PREPARE event, as statements spell it: format (4), lengths (4, 4), both parts."""
    kind, first, second = (int.from_bytes(body[at : at + 4], "little") for at in (1, 5, 9))
    parts = body[13 : 13 + first], body[13 + first : 13 + first + second]
    return b"%s,%s,%d" % (parts[0].hex().encode(), parts[1].hex().encode(), kind)
