"""Sets of MySQL's GTIDs, asked whether a transaction is in them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

_FIRST_TAG: Final = "_abcdefghijklmnopqrstuvwxyz"


class GtidSet:
    """The set that text like ``UUID:1-5:7:tag:1-3,UUID:1`` describes."""

    def __init__(self, text: str) -> None:
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        for member in filter(None, (part.strip() for part in text.split(","))):
            server, *parts = (part.strip().lower() for part in member.split(":"))
            source = server
            for part in parts:
                if part[0] in _FIRST_TAG:
                    source = f"{server}:{part}"
                else:
                    first, _, last = part.partition("-")
                    self._ranges.setdefault(source, []).append((int(first), int(last or first)))
        for ranges in self._ranges.values():
            ranges.sort()

    def __contains__(self, gtid: str) -> bool:
        source, _, number = gtid.rpartition(":")
        ranges = self._ranges.get(source, ())
        at = bisect_right(ranges, (int(number), 1 << 63)) - 1
        return at >= 0 and ranges[at][0] <= int(number) <= ranges[at][1]
