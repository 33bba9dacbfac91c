"""Which faults strike in a chaos run: a pure function of its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

#: Databases and roles that are killed, with how often for each other.
KILLS: Final = {
    "capture": 5,
    "worker": 6,
    "all captures and workers": 1,
    "broker": 3,
    "source PostgreSQL": 2,
    "target PostgreSQL": 2,
    "control store": 2,
    "MariaDB": 2,
    "MongoDB": 2,
}
#: What strikes besides, once for every third kill or so.
OTHERS: Final = {
    "broker wiped": 3,
    "broker paused": 2,
    "worker paused": 2,
    "capture paused": 2,
    "connections dropped": 3,
    "network cut": 3,
    "network delayed": 2,
    "network half open": 2,
    "network dripping": 2,
    "broker cut off from workers": 2,
    "broker cut off from captures": 2,
}
OTHER_SHARE: Final = 0.25
#: Share of faults that the next one follows at once, in the middle of the recovery.
BURST_SHARE: Final = 0.3
#: Seconds that a fault of the network or a pause lasts.
LASTING_S: Final = (0.5, 4.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One accident. `pick` chooses among several things of a kind, as a number from 0 to 1; `seconds` is how long it
    lasts; `burst`: the next one follows before the system has got over it."""

    kind: str
    pick: float
    seconds: float
    burst: bool

    @property
    def is_kill(self) -> bool:
        return self.kind in KILLS

    def one_of(self, choices: list[str]) -> str:
        return choices[int(self.pick * len(choices))]


def plan(seed: int, kills: int) -> list[Fault]:
    """Faults until so many of them are kills. The last one is waited out. Each kind of kill comes as often as its
    weight says, give or take one, so that also a short run has no favourites."""
    rand = random.Random(seed)
    deck: list[str] = []
    faults: list[Fault] = []
    while sum(fault.is_kill for fault in faults) < kills:
        if rand.random() < OTHER_SHARE:
            kind = rand.choices(list(OTHERS), list(OTHERS.values()))[0]
        else:
            deck = deck or _shuffled(rand)
            kind = deck.pop()
        faults.append(Fault(kind, rand.random(), rand.uniform(*LASTING_S), rand.random() < BURST_SHARE))
    last = faults[-1]
    return [*faults[:-1], Fault(last.kind, last.pick, last.seconds, burst=False)]


def _shuffled(rand: random.Random) -> list[str]:
    deck = [kind for kind, weight in KILLS.items() for _ in range(weight)]
    rand.shuffle(deck)
    return deck
