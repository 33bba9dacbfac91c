"""What every anchor must do. A kind joins with a class that has the fixture `place`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from connectors.ledger import anchors
from connectors.ledger.anchors import Anchor, LedgerForked
from tests.unit.ledger.ledgers import NEW, OLD, ORIGIN, grown
from worker_sync.core.errors import Transient
from worker_sync.ledger.note import Signer

#: Seconds after which a place that is away has to have been given up.
GIVEN_UP_S = 20.0


def notes_at(*sizes: int, signers: tuple[Signer, ...] = (OLD,), **changed: str) -> list[str]:
    """Checkpoints of one log at these sizes; with `changed`, of one that says something else."""
    return grown(*sizes, signers=signers, **changed)[1]


class Place(ABC):
    """Where anchors of one kind are, and what happens there behind their back."""

    @abstractmethod
    def open(self) -> Anchor: ...

    @abstractmethod
    def away(self) -> None:
        """It can't be reached from now on."""

    @abstractmethod
    def back(self) -> None: ...

    @abstractmethod
    def add(self, key: str, data: bytes) -> None:
        """Somebody else puts something there, below the anchor."""


class AnchorContract:
    @pytest.fixture
    def anchor(self, place: Place) -> Iterator[Anchor]:
        opened = place.open()
        yield opened
        opened.close()

    def test_an_empty_place_has_no_checkpoints(self, anchor: Anchor) -> None:
        assert anchor.names(ORIGIN) == []
        assert anchor.notes(ORIGIN) == []
        assert anchors.newest(anchor, ORIGIN, 5) == []

    def test_what_is_written_is_listed_and_read_by_everybody(self, anchor: Anchor, place: Place) -> None:
        made = notes_at(3, 20, 300)
        for note in reversed(made):
            anchors.write(anchor, ORIGIN, note)
        for reader in (anchor, place.open()):
            assert reader.names(ORIGIN) == [anchors.name_of(note) for note in made]
            assert reader.notes(ORIGIN) == made
            assert reader.read(ORIGIN, anchors.name_of(made[1])) == [made[1]]
            reader.close()

    def test_names_can_begin_at_a_size(self, anchor: Anchor) -> None:
        made = notes_at(3, 20, 300)
        for note in made:
            anchors.write(anchor, ORIGIN, note)
        found = {first: len(anchor.names(ORIGIN, first)) for first in (0, 3, 4, 20, 21, 300, 301)}
        assert found == {0: 3, 3: 3, 4: 2, 20: 2, 21: 1, 300: 1, 301: 0}

    def test_a_checkpoint_that_is_there_is_never_overwritten(self, anchor: Anchor) -> None:
        (note,) = notes_at(20)
        anchors.write(anchor, ORIGIN, note)
        anchors.write(anchor, ORIGIN, note)
        (signed_again,) = notes_at(20, signers=(OLD, NEW))
        anchors.write(anchor, ORIGIN, signed_again)
        assert anchor.notes(ORIGIN) == [note]

    def test_another_tree_under_the_same_name_is_a_fork_and_the_first_stays(self, anchor: Anchor) -> None:
        (note,), (other,) = notes_at(20), notes_at(20, actor="emma")
        anchors.write(anchor, ORIGIN, note)
        with pytest.raises(LedgerForked, match="signs another tree") as raised:
            anchors.write(anchor, ORIGIN, other)
        assert anchor.where(ORIGIN, anchors.name_of(note)) in str(raised.value)
        assert anchor.notes(ORIGIN) == [note]

    def test_of_many_that_write_one_name_at_once_one_wins(self, place: Place) -> None:
        name, writers = f"{7:020}-0a0b0c0d.note", 6

        def write(number: int) -> list[str]:
            anchor = place.open()
            try:
                return anchor.put(ORIGIN, name, f"text {number}\n")
            finally:
                anchor.close()

        with ThreadPoolExecutor(writers) as pool:
            found = list(pool.map(write, range(writers)))
        assert len({tuple(texts) for texts in found}) == 1
        assert len(found[0]) == 1

    def test_logs_do_not_mix(self, anchor: Anchor) -> None:
        (note,) = notes_at(20)
        for origin in ("a", "a-b", "a/b", "b"):
            assert anchor.names(origin) == []
        anchors.write(anchor, "a-b", note)
        found = {origin: len(anchor.names(origin)) for origin in ("a", "a-b", "b", "a-b-c")}
        assert found == {"a": 0, "a-b": 1, "b": 0, "a-b-c": 0}

    def test_what_is_no_checkpoint_by_its_name_is_passed_over(self, anchor: Anchor, place: Place) -> None:
        (note,) = notes_at(20)
        anchors.write(anchor, ORIGIN, note)
        folder, name = anchors.folder_of(ORIGIN), anchors.name_of(note)
        for key in (f"{folder}/notes.txt", f"{folder}/{name}.note", f"{folder}/more/{name}", f"{folder}x/{name}", name):
            place.add(key, b"something else")
        assert anchor.notes(ORIGIN) == [note]

    def test_what_is_no_text_is_read_as_what_no_note_can_be(self, anchor: Anchor, place: Place) -> None:
        name = f"{7:020}-0a0b0c0d.note"
        place.add(f"{anchors.folder_of(ORIGIN)}/{name}", b"\xff\xfe")
        assert anchor.read(ORIGIN, name) == ["\udcff\udcfe"]
        (note,) = notes_at(7)
        with pytest.raises(LedgerForked):
            anchors.write(anchor, ORIGIN, f"{note.partition('—')[0]}— {ORIGIN} CgsMDQA=\n")

    @pytest.mark.parametrize("size", [0, 290, 301, 50_000, 10_000_000])
    def test_the_newest_is_found_however_far_the_ledger_is(self, size: int, anchor: Anchor) -> None:
        made = notes_at(3, 300)
        for note in made:
            anchors.write(anchor, ORIGIN, note)
        assert anchors.newest(anchor, ORIGIN, size) == [(anchor.where(ORIGIN, anchors.name_of(made[1])), made[1])]

    def test_what_was_made_since_the_last_one_is_missing(self, anchor: Anchor) -> None:
        made = notes_at(3, 20, 300, 2000)
        assert anchors.missing(anchor, ORIGIN, 2000, reversed(made)) == made
        anchors.write(anchor, ORIGIN, made[1])
        assert anchors.missing(anchor, ORIGIN, 2000, reversed(made)) == made[2:]
        # Also where the ledger has none of those that are listed first.
        anchors.write(anchor, ORIGIN, notes_at(1999)[0])
        assert anchors.missing(anchor, ORIGIN, 2000, reversed(made)) == made[2:]
        anchors.write(anchor, ORIGIN, made[3])
        assert anchors.missing(anchor, ORIGIN, 2000, reversed(made)) == []

    def test_a_place_that_is_away_is_transient_within_seconds_and_named(self, anchor: Anchor, place: Place) -> None:
        (note,) = notes_at(20)
        place.away()
        calls: list[Callable[[], object]] = [
            lambda: anchor.names(ORIGIN),
            lambda: anchor.notes(ORIGIN),
            lambda: anchors.write(anchor, ORIGIN, note),
        ]
        for call in calls:
            begun = time.monotonic()
            with pytest.raises(Transient) as raised:
                call()
            assert anchor.place in str(raised.value)
            assert time.monotonic() - begun < GIVEN_UP_S
        place.back()
        anchors.write(anchor, ORIGIN, note)
        assert anchor.notes(ORIGIN) == [note]

    def test_a_good_place_passes_its_check(self, anchor: Anchor) -> None:
        (finding,) = anchor.findings(ORIGIN)
        assert (finding.check, finding.ok) == ("anchor", True)
        assert anchor.place in finding.detail
