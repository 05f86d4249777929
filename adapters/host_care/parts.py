"""What the parts of a host's care ask of others, and what every part can do."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pipeline.model import Symptom, SymptomKind

Extend = Callable[[str, float, str], Awaitable[None]]
"""Moves the deadline of a run (id, minutes, reason) and records that, before it returns."""


class Requirements(Protocol):
    """What the SDLC database knows about the end of requirements."""

    async def ended(self, numbers: Sequence[str]) -> Mapping[str, datetime]:
        """When those of the numbers ended that have; nobody works on them any more.

        Raises: DependencyUnavailable if the database cannot be asked: nothing is known then.
        """


class Slots(Protocol):
    """How many agents may start on this host at once."""

    def current(self) -> int:
        """The slots of now."""

    def lower(self, to: int, why: str) -> None:
        """Allow no more than that."""

    def raise_again(self) -> None:
        """Take one step back up: twice as many, never more than what was configured."""


class Part(Protocol):
    """Sees to one kind of symptom, or to those of a kind whose subject begins with `prefix`."""

    kind: SymptomKind
    component: str
    prefix: str

    async def look(self) -> Sequence[Symptom]:
        """Everything of that kind that is wrong now. Raises: PipelineError, OSError."""

    async def act(self, symptom: Symptom) -> str:
        """Treat it once; what was done, in a sentence. Raises: PipelineError."""
