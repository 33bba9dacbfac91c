"""The named states of what can't be tried again."""

from __future__ import annotations

from worker_sync.core.errors import Halt, Permanent, State, TargetRejected, Unrepresentable


class PipelineHalted(Exception):
    """One pipeline of a running session has to stop in the named state of `halt`; the others go on."""

    def __init__(self, pipeline: str, halt: Halt) -> None:
        self.pipeline = pipeline
        self.halt = halt.about(pipeline)
        super().__init__(f"{pipeline}: {self.halt}")


def halt_of(error: Permanent | Halt) -> Halt:
    """The named state in which an error leaves the source, or the one pipeline of it, that it belongs to."""
    if isinstance(error, Halt):
        return error
    if isinstance(error, Unrepresentable):
        recovery = "leave the column or table out of the pipeline, then worker-sync resync PIPELINE"
        return Halt(State.UNREPRESENTABLE_VALUE, error.detail, recovery)
    state = State.TARGET_REJECTED if isinstance(error, TargetRejected) else State.UNEXPECTED_ERROR
    return Halt(state, error.detail, "mend what the message names, then worker-sync resume PIPELINE")
