"""What an activity says of itself while it waits, or makes others wait."""

from collections.abc import Callable
from contextvars import ContextVar

from temporalio import activity

Details = list[Callable[[], object]]

_details: ContextVar[Details] = ContextVar("details")


def waiter() -> str:
    """The workflow to wake when it may go on: the one that this activity belongs to."""
    return str(activity.info().workflow_id)


def begin_details() -> Details:
    """What every heartbeat of this activity carries: nothing yet."""
    details: Details = []
    _details.set(details)
    return details


def tell_with_each_beat(what: Callable[[], object]) -> None:
    """Let every heartbeat of this activity carry that, for whoever looks at it from outside."""
    _details.get().append(what)
