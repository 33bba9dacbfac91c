"""The control store: the system's own tables, in PostgreSQL."""

from worker_sync.store.errors import NotInitialized
from worker_sync.store.store import ControlStore

__all__ = ["ControlStore", "NotInitialized"]
