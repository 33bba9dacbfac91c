"""Creates what must exist before data can flow."""

from __future__ import annotations

from tasks.ledger import make_signing_key
from worker_sync.composition.broker import create_queues
from worker_sync.composition.workspace import Workspace
from worker_sync.ledger.keys import KEY_FILE


def create_all(space: Workspace) -> list[str]:
    """Create what is missing; returns what was created, in words. Safe to repeat and to run twice at once."""
    steps = [f"control store: {migration.name}" for migration in space.store.migrate()]
    for pipeline in space.settings.flows.values():
        steps += [f"{pipeline.target}: table {table}" for table in space.create_target(pipeline)]
    steps += [f"{name}: stream" for name in space.settings.sources if space.create_stream(name)]
    if make_signing_key(space.settings):
        where = space.settings.state_dir
        steps.append(f"ledger: signing key {KEY_FILE} in {where}; keep a copy in a safe place")
    return steps + [f"broker: queue {name}" for name in create_queues(space)]
