"""Puts the parts of one configuration together, for whoever drives them: the command line and the demo."""

from worker_sync.composition.preflight import Checked, preflight
from worker_sync.composition.setup import create_all
from worker_sync.composition.tree import specs
from worker_sync.composition.workspace import Workspace

__all__ = ["Checked", "Workspace", "create_all", "preflight", "specs"]
