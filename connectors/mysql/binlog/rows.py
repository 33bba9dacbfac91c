"""Row images, read by a function that is written for each version of a table and each set of columns present.

An image is a bitmap of its NULLs (a bit per column that is present), then the values that aren't NULL, without gaps.
Runs of columns of fixed size are unpacked together as long as no NULL is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from connectors.mysql.binlog.values import Packing
from worker_sync.core.values import UNCHANGED, Row

#: Row and the place behind its image.
ReadRow = Callable[[bytes, int], tuple[Row, int]]

_LENGTHS: Final = {1: "B", 2: "<H", 4: "<I"}


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A column of the image: how it is packed and where its value goes in the row; None when it goes nowhere."""

    packing: Packing
    place: int | None


def compile_reader(columns: Sequence[ImageColumn], present: Sequence[bool], width: int) -> ReadRow:
    """The function that reads images with those columns `present` into rows of `width` values.

    What is not present is UNCHANGED in the row.
    """
    here = [column for column, is_here in zip(columns, present, strict=True) if is_here]
    writer = _Writer(here, width)
    return writer.function()


class _Writer:
    """Writes the source text of one reader."""

    def __init__(self, columns: Sequence[ImageColumn], width: int) -> None:
        self._columns = columns
        self._width = width
        self._names: dict[str, Any] = {"UNCHANGED": UNCHANGED}
        self._lines: list[str] = []

    def function(self) -> ReadRow:
        size = (len(self._columns) + 7) // 8
        self._line(0, "def read(data, at):")
        self._line(1, f"nulls = data[at:at + {size}]")
        self._line(1, f"at += {size}")
        self._line(1, f"if nulls == {bytes(size)!r}:")
        self._line(2, "pass")
        self._without_nulls()
        self._line(1, "else:")
        self._line(2, "nulls = int.from_bytes(nulls, 'little')")
        self._with_nulls()
        self._line(1, f"return ({''.join(name + ', ' for name in self._row())}), at")
        exec("\n".join(self._lines), self._names)
        read: ReadRow = self._names["read"]
        return read

    def _line(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _row(self) -> list[str]:
        names = ["UNCHANGED"] * self._width
        for number, column in enumerate(self._columns):
            if column.place is not None:
                names[column.place] = f"v{number}"
        return names

    def _without_nulls(self) -> None:
        run: list[int] = []
        for number, column in enumerate(self._columns):
            if column.packing.prefix:
                self._fixed(2, run)
                run = []
                self._prefixed(2, number)
            else:
                run.append(number)
        self._fixed(2, run)

    def _with_nulls(self) -> None:
        for number, column in enumerate(self._columns):
            self._line(2, f"if nulls & {1 << number}: v{number} = None")
            self._line(2, "else:")
            if column.packing.prefix:
                self._prefixed(3, number)
            else:
                self._fixed(3, [number])

    def _fixed(self, depth: int, numbers: list[int]) -> None:
        if not numbers:
            return
        layout = Struct("<" + "".join(self._columns[number].packing.format for number in numbers))
        name = self._named("unpack", layout.unpack_from)
        self._line(depth, f"{''.join(f'v{number}, ' for number in numbers)}= {name}(data, at)")
        self._line(depth, f"at += {layout.size}")
        for number in numbers:
            self._convert(depth, number)

    def _prefixed(self, depth: int, number: int) -> None:
        prefix = self._columns[number].packing.prefix
        if prefix == 1:
            self._line(depth, "end = at + 1 + data[at]")
        elif prefix == 3:
            self._line(depth, "end = at + 3 + (data[at] | data[at + 1] << 8 | data[at + 2] << 16)")
        else:
            name = self._named("length", Struct(_LENGTHS[prefix]).unpack_from)
            self._line(depth, f"end = at + {prefix} + {name}(data, at)[0]")
        self._line(depth, f"v{number} = data[at + {prefix}:end]")
        self._line(depth, "at = end")
        self._convert(depth, number)

    def _convert(self, depth: int, number: int) -> None:
        column = self._columns[number]
        if column.packing.convert is not None and column.place is not None:
            self._line(depth, f"v{number} = {self._named('convert', column.packing.convert)}(v{number})")

    def _named(self, kind: str, value: Any) -> str:
        name = f"{kind}{len(self._names)}"
        self._names[name] = value
        return name
