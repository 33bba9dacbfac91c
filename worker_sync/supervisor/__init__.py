"""A tree of processes that starts, is restarted and stops as one."""

from worker_sync.supervisor.child import Spec
from worker_sync.supervisor.guardian import Guardian
from worker_sync.supervisor.supervisor import Supervisor

__all__ = ["Guardian", "Spec", "Supervisor"]
