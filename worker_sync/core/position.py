"""Where a change stands in its source's log, as one totally ordered value.

The `commit` part is text that the source's engine made so that plain string order is log order (for PostgreSQL the
commit LSN as sixteen hex digits). Everything outside that engine compares positions and never looks inside.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Ordinal that stands for "every change of this transaction".
WHOLE: Final = (1 << 63) - 1


class Position(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A point in one source's log.

    `commit` orders transactions; `ordinal` counts the changes of that transaction up to this point (`WHOLE` at its
    end); `chunk` counts the snapshot chunks that were put into the stream after it, so that a chunk has a place of
    its own while the source stands still.
    """

    commit: str
    ordinal: int = WHOLE
    chunk: int = 0

    def __str__(self) -> str:
        ordinal = "end" if self.ordinal == WHOLE else str(self.ordinal)
        return f"{self.commit}/{ordinal}/{self.chunk}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read back what `str` wrote. Raises ValueError on anything else."""
        parts = text.rsplit("/", 2)
        if len(parts) != 3:
            raise ValueError(f"not a position: {text!r} (expected COMMIT/ORDINAL/CHUNK)")
        commit, ordinal, chunk = parts
        return cls(commit, WHOLE if ordinal == "end" else int(ordinal), int(chunk))


#: Before everything in any log.
BEGINNING: Final = Position("", 0, 0)
