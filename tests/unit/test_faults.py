"""What an error of an activity says in words."""

import pytest
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

from workflows.faults import describe


def late(last: Exception | None = None) -> Exception:
    error = TimeoutError(
        "Not enough time to schedule next retry", type=None, last_heartbeat_details=[]
    )
    error.__cause__ = last
    return error


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ApplicationError("git failed"), "git failed"),
        (late(), "it did not end in the time that it had"),
        (
            late(ApplicationError("git failed")),
            "it did not end in the time that it had; before that: git failed",
        ),
    ],
)
def test_cause_is_told_in_words_that_help(cause: Exception, said: str) -> None:
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="release",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause

    assert describe(error) == said
