"""How readers open the snapshots in which they read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from connectors.base import Chunk
from connectors.mysql.conn import Connection
from worker_sync.core.change import TransactionInfo
from worker_sync.core.values import Row


class MysqlChunk(Chunk):
    """Rows of a snapshot that stands in no relation to a log: what a target's reader gives."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.horizon = ""
        self.done = True

    def sees(self, info: TransactionInfo) -> bool:
        return False


class Snapshots(ABC):
    """How a reader opens the snapshots of its chunks. A source's also puts each in relation to its log."""

    @abstractmethod
    def open(self, connection: Connection) -> AbstractContextManager[MysqlChunk]:
        """Begin a transaction on the autocommit connection in which all reads see one state, and give an empty chunk
        that knows which transactions that state holds; the transaction ends with the block."""


class PlainSnapshots(Snapshots):
    """One state, and nothing known about it."""

    @contextmanager
    def open(self, connection: Connection) -> Iterator[MysqlChunk]:
        connection.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        try:
            yield MysqlChunk()
        finally:
            if connection.open:
                connection.query("COMMIT")
