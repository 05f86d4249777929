"""Which installation this is, and the names in Temporal that are its own.

An installation is one SDLC database with the workers that prove its identity. Several may share a
Temporal namespace: every task queue and every fixed workflow id carries a short form of the id.
"""

from dataclasses import dataclass

_SASHA = "sasha-"
_SHORT_LENGTH = 8
"""Short enough to read in the Web UI; two in a namespace share one once in four billion pairs."""


@dataclass(frozen=True)
class Queues:
    """The task queues of one installation.

    All are named after the one that serves workflows, so a workflow knows them from its own queue.
    """

    central: str
    """Workflows, database, NATS."""

    @property
    def opening(self) -> str:
        """Openings: every host listens with a few slots, so that a host with room takes it."""
        return f"{self.central}-open"

    @property
    def urgent(self) -> str:
        """Openings of P0s: in the other queue those who wait for room take all the slots."""
        return f"{self.central}-open-p0"

    def agents(self, host: str) -> str:
        """Stages of a host: their clones and processes live there. Nothing waits for a slot."""
        return f"{self.central}-agents-{host}"

    def waiting(self, host: str) -> str:
        """Stages that wait for a slot of a host: few at once are let in, the more urgent first."""
        return f"{self.central}-waiting-{host}"

    def tools(self, host: str) -> str:
        """Git and builds of a host, with their own bound."""
        return f"{self.central}-tools-{host}"

    def host(self, host: str) -> str:
        """What a host is asked to do at once: stages and builds may fill the others for days."""
        return f"{self.central}-host-{host}"


@dataclass(frozen=True)
class Installation:
    """An installation, by the id that its SDLC database keeps."""

    id: str

    @property
    def short(self) -> str:
        """The part of the id that names carry."""
        return self.id[:_SHORT_LENGTH]

    @property
    def queues(self) -> Queues:
        """Its task queues."""
        return Queues(f"agog-{self.short}")

    @property
    def deployment(self) -> str:
        """The name that the builds of its workers share."""
        return self.queues.central

    @property
    def sasha(self) -> str:
        """The id of Sasha's workflow."""
        return f"{_SASHA}{self.short}"


def installation_of_sasha(workflow_id: str) -> str:
    """The short id of the installation whose Sasha has that workflow id."""
    return workflow_id.removeprefix(_SASHA)
