"""Who speaks to workflows from outside: the gate, Sasha, extensions; and who is asked for facts."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.model import (
    ExtensionRequest,
    Notification,
    SashaCall,
    Waiting,
)
from pipeline.questions import RequirementFacts


class Notifier(Protocol):
    """Tells workflows what happens at the gate."""

    async def tell_repaired(self, waiting: Waiting) -> None:
        """Tell each that its dependency is there again; one that has ended needs none.

        Raises: DependencyUnavailable.
        """

    async def pre_empt(self, workflow_ids: Sequence[str]) -> None:
        """Tell each that its agents have to be suspended; one that has ended needs none.

        Raises: DependencyUnavailable.
        """

    async def notify(self, notification: Notification) -> None:
        """Tell each of them the new gate_version, or its turn; one that has ended needs none.

        Raises: DependencyUnavailable.
        """


class Sasha(Protocol):
    """What looks after the infrastructure."""

    async def call(self, call: SashaCall) -> None:
        """Ask for a look; she is started if she was not yet. Raises: DependencyUnavailable."""


class RuleFacts(Protocol):
    """What the records know of a requirement that asks about the rules."""

    async def of(self, number: str) -> RequirementFacts:
        """Its facts, in a bounded time. Raises: UnknownRequirement, DependencyUnavailable."""


class Extender(Protocol):
    """Hands extensions of deadlines to the workflows."""

    async def extend(self, number: str, request: ExtensionRequest, repeat_id: str) -> str:
        """Move the deadline, once per `repeat_id`; the run that it belongs to.

        Raises: RefusedInput with the workflow's reason, DependencyUnavailable.
        """
