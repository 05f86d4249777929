"""From a failed activity to a failure that the report can name."""

from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import unsafe

with unsafe.imports_passed_through():
    from pipeline.answers import ERROR_LENGTH
    from pipeline.errors import (
        IllegalTransition,
        RetriesExhausted,
        StaleAttempt,
        UnknownRequirement,
    )
    from pipeline.model import Failure, FailureKind

_OVERTAKEN = {each.__name__ for each in (IllegalTransition, StaleAttempt, UnknownRequirement)}


def failure_of(error: ActivityError, *, stage: str, gate: str, owners: tuple[str, ...]) -> Failure:
    """The failure behind an activity's error: a typed refusal, or an infrastructure loss.

    Raises: the error itself if it is a cancellation.
    """
    if is_cancelled_exception(error):
        raise error
    refused = _is_refused(error)
    return Failure(
        stage=stage,
        kind=FailureKind.REFUSED if refused else FailureKind.INFRASTRUCTURE,
        gate=gate,
        owners=owners if refused else (),
        error=describe(error)[:ERROR_LENGTH],
    )


def fault_of(error: Exception, *, stage: str, gate: str) -> Failure:
    """The failure behind an error that nobody foresaw: no agent's, and nobody's to repair."""
    said = words(error)
    return Failure(stage, FailureKind.INFRASTRUCTURE, gate, (), said[:ERROR_LENGTH])


def is_infrastructure(error: ActivityError) -> bool:
    """Whether it was tried for as long as it may be, or nobody was there to try it."""
    return not (is_cancelled_exception(error) or _is_refused(error))


def can_resume(error: ActivityError) -> bool:
    """Whether the very attempt may go on: the database has not left it behind."""
    return not (isinstance(error.cause, ApplicationError) and error.cause.type in _OVERTAKEN)


def describe(error: ActivityError) -> str:
    """The cause in words: `str` of an ActivityError itself identifies nothing."""
    cause = error.cause or error
    if isinstance(cause, ApplicationError):
        return cause.message
    return f"{type(cause).__name__}: {cause}"


def words(error: Exception) -> str:
    """What an error says; that of an activity says what its cause was."""
    if isinstance(error, ActivityError):
        return describe(error)
    return f"{type(error).__name__}: {error}"


def _is_refused(error: ActivityError) -> bool:
    cause = error.cause
    is_final = isinstance(cause, ApplicationError) and cause.non_retryable
    return is_final and cause.type != RetriesExhausted.__name__  # type: ignore[union-attr] # it is
