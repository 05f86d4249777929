"""What Sasha does, what she has done, and what she would do about what is wrong right now.

A part that cannot be found out is named and fails no other part. Nothing is repaired.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from adapters.bounded import within
from adapters.care.memory import MemoryCare
from adapters.runs.host import HostRuns
from adapters.runs.slot_limit import SlotLimit
from adapters.sdlc_store import create_store
from adapters.sdlc_views import IncidentView, ListedRequirement
from adapters.temporal_workflows import workflow_standing
from adapters.user_files import find_agents
from cli.checks import LOOK_SECONDS
from cli.connections import temporal_client
from cli.installation import installation_of
from cli.records import records
from cli.sasha_standing import sasha_standing
from hosting.sasha import care_of_cluster, care_of_host
from pipeline.errors import PipelineError
from pipeline.infrastructure import is_infrastructure
from pipeline.installation import Installation
from pipeline.model import RequirementState, SashaStanding, Symptom, SymptomKind
from pipeline.remedies import findings
from settings import Settings
from workflows.sasha import CLUSTER

_INCIDENTS = 5
_OPEN = tuple(state for state in RequirementState if not state.is_final)


@dataclass(frozen=True)
class Advice:
    """A symptom of a place, empty for the cluster, and how it would be repaired."""

    place: str
    kind: SymptomKind
    component: str
    subject: str
    detail: str
    diagnosis: str
    action: str
    attempts: int
    escalates: bool


@dataclass
class SashaReport:
    """Everything about Sasha that could be found out; `unknown` says what could not, and why.

    `standing` is None unless her workflow has answered.
    """

    is_there: bool | None = None
    standing: SashaStanding | None = None
    requirements: tuple[ListedRequirement, ...] = ()
    incidents: tuple[IncidentView, ...] = ()
    would_do: tuple[Advice, ...] = ()
    unknown: list[str] = field(default_factory=list)

    @property
    def document(self) -> dict[str, object]:
        """What `--json` says of her."""
        return {
            "is_there": self.is_there,
            "standing": self.standing,
            "requirements": [
                {"req_number": each.number, "state": each.state, "since": each.waiting_since}
                for each in self.requirements
            ],
            "incidents": self.incidents,
            "would_do": self.would_do,
            "unknown": self.unknown,
        }


async def report_on_sasha(settings: Settings) -> SashaReport:
    """Look at all of it at once; it takes as long as the slowest look, which is bounded."""
    report = SashaReport()
    await asyncio.gather(
        _noting(report, "Her incidents", _read_records(report, settings)),
        _noting(report, "Sasha in Temporal", _ask_temporal(report, settings)),
    )
    return report


async def _noting(report: SashaReport, what: str, look: Coroutine[Any, Any, None]) -> None:
    """Take a look; if it fails, the report says why."""
    try:
        await within(LOOK_SECONDS, look)
    except (PipelineError, RPCError, WorkflowQueryFailedError, TimeoutError, OSError) as error:
        report.unknown.append(f"{what}: {error}")


async def _read_records(report: SashaReport, settings: Settings) -> None:
    async with records(settings) as reader:
        opened = await reader.requirements(states=_OPEN)
        report.requirements = tuple(one for one in opened if is_infrastructure(one.number))
        report.incidents = await reader.incidents(_INCIDENTS)


async def _ask_temporal(report: SashaReport, settings: Settings) -> None:
    """Her workflow, and what she would find: she acts through Temporal alone."""
    client, installation = await asyncio.gather(
        temporal_client(settings), installation_of(settings)
    )
    if installation is None:  # nobody has ever started anything
        report.is_there = False
        installation = Installation("")
    await asyncio.gather(
        _noting(report, "What she repairs", _ask_her(report, client, installation)),
        _noting(report, "The cluster", _look_at_cluster(report, settings, client, installation)),
        _noting(report, "This host", _look_at_host(report, settings, client, installation)),
    )


async def _ask_her(report: SashaReport, client: Client, installation: Installation) -> None:
    standing = await workflow_standing(client, installation.sasha)
    report.is_there = standing is not None and not standing.has_ended
    if report.is_there:
        report.standing = await sasha_standing(client, installation)


async def _look_at_cluster(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    store = create_store(settings.database_url.get_secret_value())
    try:
        async with care_of_cluster(settings, client, installation, store) as care:
            found = await care.look()  # before `+=`, which would read the old value first
            report.would_do += _advice(CLUSTER, found)
    finally:
        await store.close()


async def _look_at_host(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    slots = SlotLimit(settings.home, settings.max_parallel_stages)
    agents = find_agents(settings.agents_file)
    runs = HostRuns(settings.home, agents, slots, settings.children_environment)
    memory = MemoryCare(settings.host, slots)
    async with care_of_host(settings, client, installation, runs, memory) as care:
        found = await care.look()
        report.would_do += _advice(settings.host, found)


def _advice(place: str, symptoms: Sequence[Symptom]) -> tuple[Advice, ...]:
    return tuple(
        Advice(
            place,
            finding.symptom.kind,
            finding.symptom.component,
            finding.symptom.subject,
            finding.symptom.detail,
            finding.remedy.diagnosis,
            finding.remedy.action,
            finding.remedy.attempts,
            finding.remedy.escalates,
        )
        for finding in findings(symptoms)
    )
