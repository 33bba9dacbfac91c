"""Two small tables in any engine: made, filled, written to at random, and read back in one form.

``items``: id -> name, amount (two decimals), body (large at times). ``tags``: (item, label) -> note.
In an engine of documents the key is ``_id``, as a document where it has two parts.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tests.fixtures.traffic import Traffic

IDS = 1_500
LARGE = 12_000
#: Seconds between two transactions: traffic, not a flood, on a machine that runs everything else too.
PAUSE_S = 0.03
SIZES = (1, 1, 1, 1, 2, 5, 20, 100)
LABELS = "abcde"

#: A table's rows: key parts to the other columns, decimals as text with two digits.
Rows = dict[tuple[Any, ...], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a transaction; what it can't do (a row that is missing, a key that is taken) does nothing."""

    kind: str
    id: int
    other: int
    label: str
    text: str
    amount: Decimal
    large: bool

    @property
    def body(self) -> str:
        return self.text * (LARGE // len(self.text) if self.large else 1)


KINDS = (
    ["insert"] * 30 + ["update"] * 22 + ["body"] * 5 + ["move"] * 8 + ["delete"] * 8
    + ["tag"] * 15 + ["retag"] * 6 + ["untag"] * 4
)  # fmt: skip


def any_step(pick: random.Random) -> Step:
    return Step(
        pick.choice(KINDS),
        pick.randrange(IDS),
        pick.randrange(IDS),
        pick.choice(LABELS),
        f"t{pick.randrange(1_000_000)}é🐘",
        Decimal(pick.randrange(-100_000, 100_000)).scaleb(-2),
        pick.random() < 0.2,
    )


class Lab(ABC):
    """One empty database."""

    #: Tables in a pipeline's configuration that mean those of the lab, when it is the source.
    selects: ClassVar[tuple[str, ...]]

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def create(self) -> None:
        """Make both tables."""

    @abstractmethod
    def fill(self, ids: Sequence[int]) -> None:
        """One row of `items` for each id, and a tag for every other one."""

    @abstractmethod
    def transaction(self, steps: Sequence[Step]) -> None:
        """Do all steps in one transaction. Raises the driver's error when it did not happen."""

    @abstractmethod
    def rows(self, table: str, *, of_documents: bool) -> Rows:
        """All rows; `of_documents` when an engine of documents is the source that they came from."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back what is held open."""


class LabTraffic(Traffic):
    """Random transactions on both tables."""

    def __init__(self, lab: Lab, seed: int = 1) -> None:
        super().__init__(lab.url, seed)
        self._lab = lab

    def work(self) -> None:
        while not self.stopping.wait(PAUSE_S):
            steps = [any_step(self.random) for _ in range(self.random.choice(SIZES))]
            self._lab.transaction(steps)
            self.transactions += 1
