"""What is tried again because it failed, and what an end has left behind."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.model.references import RequirementRef

RETRY_BOUND = timedelta(minutes=10)
"""How long an activity may go on failing before a human is asked (design, section 3).

Only failing counts: neither the work between two failures of different steps, nor a lost worker.
What has happened already waits for the database and NATS without one (`activities.persistence`).
"""


@dataclass(frozen=True)
class Retry:
    """A step of an activity that failed and is tried again, or waits to be."""

    workflow_id: str
    activity_id: str
    host: str
    step: str
    since: datetime
    """The first failure in a row."""
    tries: int
    """How often it has failed since."""
    error: str
    last_at: datetime

    @property
    def number(self) -> str:
        """The requirement, or fix, that waits for it."""
        return self.workflow_id.partition("/")[0]


@dataclass(frozen=True)
class Leftover:
    """What could not be cleaned up when its requirement ended; its host goes on trying."""

    ref: RequirementRef
    reason: str
    tries: int
