"""From a failed activity to a failure that the report can name."""

from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import unsafe

with unsafe.imports_passed_through():
    from pipeline.answers import ERROR_LENGTH
    from pipeline.model import Failure, FailureKind


def failure_of(error: ActivityError, *, stage: str, gate: str, owners: tuple[str, ...]) -> Failure:
    """The failure behind an activity's error: a typed refusal, or an infrastructure loss.

    Raises: the error itself if it is a cancellation.
    """
    if is_cancelled_exception(error):
        raise error
    cause = error.cause
    refused = isinstance(cause, ApplicationError) and cause.non_retryable
    return Failure(
        stage=stage,
        kind=FailureKind.REFUSED if refused else FailureKind.INFRASTRUCTURE,
        gate=gate,
        owners=owners if refused else (),
        error=describe(error)[:ERROR_LENGTH],
    )


def describe(error: ActivityError) -> str:
    """The cause in words: `str` of an ActivityError itself identifies nothing."""
    cause = error.cause or error
    if isinstance(cause, ApplicationError):
        return cause.message
    return f"{type(cause).__name__}: {cause}"
