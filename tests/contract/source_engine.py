"""How the source suite makes things happen in an engine, and how it follows a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from typing import Any

from connectors.base import Chunk, Source, Stream, TableReader
from tests.fixtures.eventually import eventually
from worker_sync.core.change import Change, Message, Piece, Progress, TransactionInfo
from worker_sync.core.errors import Transient
from worker_sync.core.schema import Kind, TableName, TableSchema
from worker_sync.core.values import Key, Row

#: How long a test waits for what must arrive, in seconds.
PATIENCE = 20.0
LIMIT = 1_000

Values = Mapping[str, Any]


class Writer(ABC):
    """Writes inside one transaction of the database."""

    @abstractmethod
    def insert(self, table: TableName, *rows: Values) -> None:
        """All rows in one statement."""

    @abstractmethod
    def update(self, table: TableName, key: Values, values: Values) -> None: ...

    @abstractmethod
    def delete(self, table: TableName, key: Values) -> None: ...

    @abstractmethod
    def truncate(self, table: TableName) -> None: ...

    @abstractmethod
    def message(self, prefix: str, content: bytes) -> None: ...


class SourceEngine(ABC):
    """How the suite makes things happen in one engine."""

    #: The database's name in the configuration.
    name = "contract"
    truncates = True
    messages = True
    #: The server keeps up to where a stream is confirmed, and doesn't deliver from before that.
    remembers_confirmations = True
    #: The key of a row can change.
    changes_keys = True
    #: How a table of the columns id, name and note with the key id is announced.
    column_names: tuple[str, ...] = ("id", "name", "note")
    key_names: tuple[str, ...] = ("id",)

    @abstractmethod
    def source(self) -> Source:
        """A new source on the database."""

    @abstractmethod
    def create_table(self, name: str, columns: Mapping[str, Kind], key: Sequence[str]) -> TableName:
        """Columns are of kind int (64 bits), text or uuid."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Writer]:
        """One transaction on a connection of its own, committed at the end of the block."""

    def row(self, table: TableName, values: Values) -> Row:
        """The canonical row of these values of the table's columns, all in column order."""
        return tuple(values.values())

    def key(self, table: TableName, *values: Any) -> Key:
        """The canonical key of these values of the key's columns."""
        return values

    def id_of(self, row: Row) -> Any:
        """The value of the column `id`, the first."""
        return row[0]

    @abstractmethod
    def stir(self) -> None:
        """Commit something that lengthens the server's log and is none of the stream's business."""


class Follower:
    """Reads a stream into memory."""

    def __init__(self, stream: Stream, limit: int = LIMIT) -> None:
        self.stream = stream
        self.items: list[Piece | Progress] = []
        self._limit = limit

    def read_until(self, enough: Callable[[], object], what: str) -> None:
        deadline = monotonic() + PATIENCE
        while not enough():
            assert monotonic() < deadline, f"waited in vain for {what}; arrived: {self.items}"
            self.items.extend(self.stream.read(0.5, self._limit))

    def read_changes(self, count: int) -> list[tuple[TransactionInfo, Change]]:
        """Read until there are at least that many changes in whole transactions."""
        self.read_until(lambda: len(self.changes) >= count and self.pieces[-1].last, f"{count} changes")
        return self.changes

    def read_to(self, commit: str) -> None:
        self.read_until(lambda: self.reached >= commit, f"position {commit}")

    @property
    def pieces(self) -> list[Piece]:
        return [item for item in self.items if isinstance(item, Piece)]

    @property
    def changes(self) -> list[tuple[TransactionInfo, Change]]:
        return [(piece.info, change) for piece in self.pieces for change in piece.changes]

    def ids(self, engine: SourceEngine) -> list[Any]:
        """The column `id` of every change that has a new row."""
        return [engine.id_of(change.after) for _, change in self.changes if change.after]

    @property
    def messages(self) -> list[Message]:
        return [message for piece in self.pieces for message in piece.messages]

    @property
    def reached(self) -> str:
        """The position up to which everything has arrived."""
        done = [item.commit if isinstance(item, Progress) else item.info.commit for item in self.items if _whole(item)]
        return done[-1] if done else ""


def _whole(item: Piece | Progress) -> bool:
    return isinstance(item, Progress) or item.last


def commit_of(item: Piece | Progress) -> str:
    return item.commit if isinstance(item, Progress) else item.info.commit


@contextmanager
def following(source: Source, start: str, limit: int = LIMIT) -> Iterator[Follower]:
    """A stream that is closed at the end; a server that still holds the stream of before is waited for."""
    opened: list[Stream] = []

    def opens() -> bool:
        with suppress(Transient):
            opened.append(source.open_stream(start))
        return bool(opened)

    eventually(opens, PATIENCE, "the stream opens")
    with opened[0] as stream:
        yield Follower(stream, limit)


def rows_of(reader: TableReader, table: TableSchema, limit: int) -> tuple[list[Any], list[Chunk]]:
    """The keys of all rows, read chunk by chunk."""
    keys: list[Key] = []
    chunks: list[Chunk] = []
    while not chunks or not chunks[-1].done:
        chunks.append(reader.chunk(table, keys[-1] if keys else None, limit))
        keys += [tuple(row[index] for index in table.key_indexes) for row in chunks[-1].rows]
    return keys, chunks


def insert_one_by_one(engine: SourceEngine, table: TableName, numbers: Sequence[int]) -> None:
    """A transaction for each."""
    for number in numbers:
        with engine.transaction() as writer:
            writer.insert(table, {"id": number, "name": "x", "note": None})
