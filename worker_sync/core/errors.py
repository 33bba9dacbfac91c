"""Errors, named by what the runtime does with them.

::

    WorkerSyncError
    ├── Transient            try again later
    │   └── Unreachable      a system did not answer (exit code 3)
    ├── Permanent            trying again can't help: park the change, or stop its pipeline
    │   ├── UndecodableBatch
    │   ├── Unrepresentable  a value that the other side has no form for
    │   └── TargetRejected   the target refused a row
    ├── Halt                 stop the pipeline in a named state until a person acts
    ├── Fenced               a newer process took over: give up quietly
    ├── Shutdown             the process is asked to end: hand the work back
    └── ConfigError          the configuration or the command is wrong (exit code 2)

The first line of a class's docstring is its message's beginning; what happened follows after a colon.
"""

from __future__ import annotations

from enum import StrEnum


class WorkerSyncError(Exception):
    """Worker-Sync failed"""

    exit_code = 1

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        headline = (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(f"{headline}: {detail}" if detail else headline)


class Transient(WorkerSyncError):
    """Temporary failure

    `retry_after_s`: seconds after which it is worth another try, where somebody knows.
    """

    exit_code = 3
    retry_after_s: float | None = None


class Unreachable(Transient):
    """Could not reach"""


class Permanent(WorkerSyncError):
    """Permanent failure"""


class UndecodableBatch(Permanent):
    """Undecodable batch"""


class Unrepresentable(Permanent):
    """Value can't be represented"""


class TargetRejected(Permanent):
    """The target refused the change"""


class Fenced(WorkerSyncError):
    """A newer process took over"""


class Shutdown(WorkerSyncError):
    """Shutting down"""


class ConfigError(WorkerSyncError):
    """Configuration error"""

    exit_code = 2


class State(StrEnum):
    """Named states in which a pipeline or a source stands still until a person acts."""

    SLOT_MISSING = "slot-missing"
    SLOT_INVALIDATED = "slot-invalidated"
    #: The source kept more log for us than it was allowed to; we have let go of it.
    LOG_LIMIT = "log-limit"
    IDENTITY_CHANGED = "identity-changed"
    #: Batches on the capture's disk, whose log the source may have dropped, are not there any more.
    SPILL_LOST = "spill-lost"
    #: They are there, but were written with another key.
    SPILL_LOCKED = "spill-locked"
    POSITION_LOST = "position-lost"
    UNKNOWN_MESSAGE = "unknown-message"
    UNREPRESENTABLE_VALUE = "unrepresentable-value"
    SCHEMA_MISMATCH = "schema-mismatch"
    FILTER_UNDECIDED = "filter-undecided"
    SCHEMA_CHANGED = "schema-changed"
    TARGET_REJECTED = "target-rejected"
    UNDECODABLE_BATCH = "undecodable-batch"
    TABLE_UNSUPPORTED = "table-unsupported"
    PREFLIGHT_FAILED = "preflight-failed"
    #: A defect of ours: the log holds its traceback.
    UNEXPECTED_ERROR = "unexpected-error"


class Halt(WorkerSyncError):
    """Stopped

    `state` names what is wrong, `recovery` is the command (or statement) that a person runs next. Who doesn't know the
    pipeline writes PIPELINE there; `about` fills it in.
    """

    def __init__(self, state: State, detail: str, recovery: str) -> None:
        self.state = state
        self.recovery = recovery
        super().__init__(f"{state}: {detail}. To recover: {recovery}")
        self.detail = detail

    def about(self, pipeline: str) -> Halt:
        """The same with a recovery that ends with a command to run as it stands: a halted pipeline needs one, whatever
        has to be mended before."""
        recovery = self.recovery.replace("PIPELINE", pipeline)
        if f"resume {pipeline}" not in recovery and f"resync {pipeline}" not in recovery:
            recovery = f"{recovery}; then worker-sync resume {pipeline}"
        return Halt(self.state, self.detail, recovery)
