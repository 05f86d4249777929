"""Who waits if something holds what an activity is about to begin."""

from temporalio import activity


def waiter() -> str:
    """The workflow to wake when it may go on: the one that this activity belongs to."""
    return str(activity.info().workflow_id)
