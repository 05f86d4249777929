"""Who looks after the infrastructure."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.model import (
    Symptom,
)


class Caretaker(Protocol):
    """Looks after one place: the house (dependencies, records), or a host and what runs on it."""

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong there now; what cannot be looked at is a symptom too."""

    async def is_over(self, symptom: Symptom) -> bool | None:
        """Whether a fresh look of what sees to it does not find it any more; it looks at no more.

        None while that cannot be seen: a greater trouble hides a smaller one and ends none.
        """

    async def act(self, symptom: Symptom) -> str:
        """Do once what the remedy says; what was done, in a sentence.

        Raises: PipelineError if it could not be done: that counts as a failed attempt.
        """


class Readiness(Protocol):
    """Whether this worker reaches what every stage boundary needs."""

    def check(self) -> None:
        """Let pass while NATS and the SDLC database answer; costs nothing.

        Raises: DependencyUnavailable naming the one that does not, its address and the remedy.
        """
