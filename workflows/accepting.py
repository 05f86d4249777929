"""An update is checked twice: by its validator, and when its turn comes."""

from collections.abc import Callable

from temporalio.exceptions import ApplicationError
from temporalio.workflow import unsafe

with unsafe.imports_passed_through():
    from pipeline.errors import RefusedInput


def accept(check: Callable[[], None]) -> None:
    """Check again what the validator saw: an earlier answer may have been recorded since.

    Raises: ApplicationError of the refusal's type, as a validator's refusal reaches the caller.
    """
    try:
        check()
    except RefusedInput as refusal:
        name = type(refusal).__name__
        raise ApplicationError(str(refusal), type=name, non_retryable=True) from refusal
