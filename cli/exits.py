"""What the process's exit code says, and what each error and state makes of it."""

from collections.abc import Sequence
from enum import IntEnum

from pipeline.errors import (
    AlreadyStarted,
    DependencyUnavailable,
    PipelineError,
    RefusedInput,
    UnknownRequirement,
)
from pipeline.model import RequirementState


class ExitCode(IntEnum):
    """A contract: scripts depend on it (design, section 5)."""

    DELIVERED = 0
    NOT_DELIVERED = 1
    REFUSED = 2
    NOT_FOUND = 3
    NEEDS_HUMAN = 4
    CANCELLED = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


OK = ExitCode.DELIVERED
"""What a command that delivers nothing means by 0."""

_STATES = {
    RequirementState.DELIVERED: ExitCode.DELIVERED,
    RequirementState.FAILED: ExitCode.NOT_DELIVERED,
    RequirementState.CANCELLED: ExitCode.CANCELLED,
    RequirementState.BLOCKED: ExitCode.NEEDS_HUMAN,
}


ENDS = (
    ExitCode.NOT_DELIVERED,
    ExitCode.NEEDS_HUMAN,
    ExitCode.CANCELLED,
    ExitCode.DELIVERED,
)
"""The codes of a requirement that was followed to its end or to a question, gravest first."""


def exit_code_of_state(state: RequirementState) -> ExitCode:
    """The code of a state that is worth ending for. Raises: KeyError for any other."""
    return _STATES[state]


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The code of several results: a failure says more than a question, a question than a stop."""
    return min(codes, key=ENDS.index)


def exit_code_of_error(error: PipelineError) -> ExitCode:
    """The code of an error, by its type."""
    match error:
        case RefusedInput() | AlreadyStarted():
            return ExitCode.REFUSED
        case UnknownRequirement():
            return ExitCode.NOT_FOUND
        case DependencyUnavailable():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.NOT_DELIVERED
