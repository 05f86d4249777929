"""Exit codes: a contract, on which scripts depend (design, section 5)."""

from enum import IntEnum

from pipeline.errors import (
    AlreadyStarted,
    DependencyUnavailable,
    PipelineError,
    RefusedInput,
    UnknownRequirement,
)


class ExitCode(IntEnum):
    """How a command ended."""

    DELIVERED = 0
    NOT_DELIVERED = 1
    REFUSED = 2
    NOT_FOUND = 3
    NEEDS_HUMAN = 4
    CANCELLED = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


OK = ExitCode.DELIVERED
"""Success of a command that delivers nothing."""


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
