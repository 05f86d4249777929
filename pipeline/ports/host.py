"""The outside world of one host: its health, and the workflows that it speaks to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from pipeline.agents_file import CurrentAgents
from pipeline.errors import ProjectMissing
from pipeline.model import (
    RETRY_BOUND,
    Alert,
    ExtensionRequest,
    Notification,
    SashaCall,
    Waiting,
)
from pipeline.ports.records import EventPublisher, SdlcStore
from pipeline.ports.work import AgentRuns, Builds, Prompts, PullRequests, Workspaces
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


@dataclass(frozen=True)
class HostPorts:
    """The outside world of one host, and what its worker was told.

    `workspaces` and `pull_requests` are None on a host without a project; `parallel` is the
    worker's switch, told with every outcome. An activity that keeps failing is given up after
    `retry_bound`.
    """

    store: SdlcStore
    publisher: EventPublisher
    notifier: Notifier
    sasha: Sasha
    cluster_care: HealthChecks
    host_care: HealthChecks
    runs: AgentRuns
    prompts: Prompts
    builds: Builds
    workspaces: Workspaces | None
    readiness: Readiness
    agents: CurrentAgents
    host: str
    host_requirements: int
    parallel: bool
    retry_bound: timedelta = RETRY_BOUND
    repository: str = ""
    """Names the project for deliveries that take turns: other hosts may have the same one."""
    pull_requests: PullRequests | None = None
    moved: Mapping[str, str] = field(default_factory=dict)
    """Requirements and fixes that were this host's, each with the host that continues it."""

    async def publish(self, number: str) -> int:
        """Publish a requirement's pending events; nothing starts before they are out."""
        return await self.store.publish_pending(number, self.publisher)

    @property
    def forge(self) -> PullRequests:
        """What makes pull requests of the project. Raises: ProjectMissing on a host without one."""
        if self.pull_requests is None:
            raise _missing(self.host)
        return self.pull_requests

    @property
    def project(self) -> Workspaces:
        """The project. Raises: ProjectMissing on a host without one."""
        if self.workspaces is None:
            raise _missing(self.host)
        return self.workspaces


def _missing(host: str) -> ProjectMissing:
    return ProjectMissing(
        f"PROJECT_ROOT is not set for the worker on {host}: set it and restart it."
    )
