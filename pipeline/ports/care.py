"""Health checks and repairs of the infrastructure."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.model import (
    Alert,
)


class HealthChecks(Protocol):
    """Checks and repairs one place: the cluster (dependencies, records), or a host."""

    async def look(self) -> Sequence[Alert]:
        """Everything that is wrong there now; what cannot be looked at is an alert too."""

    async def is_over(self, alert: Alert) -> bool | None:
        """Whether a fresh look, at nothing else, no longer finds it.

        None while that cannot be seen: a greater trouble hides a smaller one and does not end it.
        """

    async def act(self, alert: Alert) -> str:
        """Do once what the remedy says; what was done, in a sentence.

        Raises: PipelineError if it could not be done: that counts as a failed attempt.
        """


class Readiness(Protocol):
    """Whether this worker reaches what every stage boundary needs."""

    def check(self) -> None:
        """Let pass while NATS and the SDLC database answer; costs nothing.

        Raises: DependencyUnavailable naming the one that does not, its address and the remedy.
        """
