"""What Sasha repairs, what she has repaired, and what she would do about what is wrong right now.

Each part is found out by itself. One that cannot be found out is named, fails nothing else, and
changes no exit code. Nothing is repaired from here.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from adapters.care.memory import MemoryCare
from adapters.runs.host import HostRuns
from adapters.runs.resources import RunResources
from adapters.runs.slots import SlotLimit
from adapters.sdlc.store import create_store
from adapters.sdlc.views import IncidentView, ListedRequirement
from adapters.temporal.workflows import workflow_status
from adapters.user_files import find_agents
from adapters.waiting import within
from cli import output
from cli.connections import records, temporal_client
from cli.doctor.checks import CHECK_SECONDS
from cli.hints import sasha_status
from cli.incidents import incident_text, place_name
from cli.installation import installation_of
from hosting.sasha import care_of_cluster, care_of_host
from pipeline.errors import PipelineError
from pipeline.infrastructure import is_infrastructure
from pipeline.installation import Installation
from pipeline.model import (
    Alert,
    AlertKind,
    RemediationStatus,
    SashaStatus,
)
from pipeline.phases import OPEN_STATES
from pipeline.runbook import findings
from settings import Settings
from workflows.sasha import CLUSTER

_INCIDENTS = 5


@dataclass(frozen=True)
class Advice:
    """An alert and what Sasha would do about it; `place` is a host, or empty for the cluster."""

    place: str
    kind: AlertKind
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

    `status` is None unless her workflow has answered.
    """

    is_there: bool | None = None
    status: SashaStatus | None = None
    requirements: tuple[ListedRequirement, ...] = ()
    incidents: tuple[IncidentView, ...] = ()
    would_do: tuple[Advice, ...] = ()
    unknown: list[str] = field(default_factory=list)

    @property
    def document(self) -> dict[str, object]:
        """The JSON of this report."""
        return {
            "is_there": self.is_there,
            "status": self.status,
            "requirements": [
                {"req_number": each.number, "state": each.state, "since": each.waiting_since}
                for each in self.requirements
            ],
            "incidents": self.incidents,
            "would_do": self.would_do,
            "unknown": self.unknown,
        }


async def report_on_sasha(settings: Settings) -> SashaReport:
    """Find out all parts at the same time, each within `CHECK_SECONDS`."""
    report = SashaReport()
    await asyncio.gather(
        _find_out(report, "Sasha's incidents", partial(_read_records, report, settings)),
        _find_out(report, "Sasha in Temporal", partial(_ask_temporal, report, settings)),
    )
    return report


async def _find_out(
    report: SashaReport, what: str, part: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Find out a part of the report, or note why that failed."""
    try:
        await within(CHECK_SECONDS, part())
    except (PipelineError, RPCError, WorkflowQueryFailedError, TimeoutError, OSError) as error:
        report.unknown.append(f"{what}: {error}")


async def _read_records(report: SashaReport, settings: Settings) -> None:
    async with records(settings) as reader:
        opened = await reader.requirements(states=OPEN_STATES)
        report.requirements = tuple(one for one in opened if is_infrastructure(one.number))
        report.incidents = await reader.incidents(_INCIDENTS)


async def _ask_temporal(report: SashaReport, settings: Settings) -> None:
    """All that needs Temporal: her workflow, and the probes that she acts on."""
    client, installation = await asyncio.gather(
        temporal_client(settings), installation_of(settings)
    )
    if installation is None:  # nothing was ever started here
        report.is_there = False
        installation = Installation("")
    here = (report, settings, client, installation)
    await asyncio.gather(
        _find_out(report, "What she repairs", partial(_ask_her, report, client, installation)),
        _find_out(report, "The cluster", partial(_probe_cluster, *here)),
        _find_out(report, "This host", partial(_probe_host, *here)),
    )


async def _ask_her(report: SashaReport, client: Client, installation: Installation) -> None:
    status = await workflow_status(client, installation.sasha)
    report.is_there = status is not None and not status.has_ended
    if report.is_there:
        report.status = await sasha_status(client, installation)


async def _probe_cluster(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    store = create_store(settings.database_url.get_secret_value())
    try:
        async with care_of_cluster(settings, client, installation, store) as care:
            alerts = await care.look()
    finally:
        await store.close()
    report.would_do += _advice(CLUSTER, alerts)


async def _probe_host(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    slots = SlotLimit(settings.home, settings.max_parallel_stages)
    agents = find_agents(settings.agents_file)
    resources = RunResources(settings.home, settings.run_ports)
    runs = HostRuns(settings.home, lambda: agents, slots, settings.children_environment, resources)
    memory = MemoryCare(settings.host, slots)
    async with care_of_host(settings, client, installation, runs, memory) as care:
        alerts = await care.look()
    report.would_do += _advice(settings.host, alerts)


def _advice(place: str, alerts: Sequence[Alert]) -> tuple[Advice, ...]:
    return tuple(
        Advice(
            place,
            finding.alert.kind,
            finding.alert.component,
            finding.alert.subject,
            finding.alert.detail,
            finding.remedy.diagnosis,
            finding.remedy.action,
            finding.remedy.attempts,
            finding.remedy.escalates,
        )
        for finding in findings(alerts)
    )


def report_text(report: SashaReport) -> RenderableType:
    """What she repairs, the requirements for what she could not, her advice and past incidents."""
    lines = (*_status(report), *_opened(report), *_advised(report), *_history(report))
    return Group(*map(output.prose, lines), *map(incident_text, report.incidents))


def _status(report: SashaReport) -> Iterator[str]:
    if report.is_there is False:
        yield "Sasha has not been called yet."
    if report.status is None:
        return
    remediations = report.status.remediations
    yield "Sasha is repairing:" if remediations else "Sasha is running and repairs nothing now."
    for remediation in remediations:
        yield from _case_lines(remediation)
    for waiting in report.status.waiting:
        yield f"Waiting for {waiting.dependency}: {', '.join(waiting.callers)}"


def _case_lines(remediation: RemediationStatus) -> Iterator[str]:
    alert, since = remediation.alert, output.moment(remediation.began_at)
    yield f"  {place_name(remediation.place)}: {_what(alert.kind, alert.subject)} since {since}"
    yield f"      {output.plain(alert.detail)}"
    for action in remediation.actions:
        yield f"      - {output.plain(output.first_line(action))}"


def _opened(report: SashaReport) -> Iterator[str]:
    for each in report.requirements:
        command = f"python starter.py status {each.number}"
        yield f"{each.number} is {each.state} since {output.moment(each.created_at)}: {command}"


def _advised(report: SashaReport) -> Iterator[str]:
    if report.would_do:
        yield "What she finds now and would do:"
    elif not report.unknown:
        yield "She finds nothing to do."
    for advice in report.would_do:
        yield f"  {place_name(advice.place)}: {_what(advice.kind, advice.subject)}"
        times = "once" if advice.attempts == 1 else f"{advice.attempts} times at most"
        bound = f"({times}{', then a P0 asks a human' if advice.escalates else ''})"
        for line in (advice.diagnosis, advice.detail, f"-> {advice.action} {bound}"):
            yield f"      {output.plain(line)}"


def _history(report: SashaReport) -> Iterator[str]:
    for sentence in report.unknown:
        yield f"Unknown: {output.plain(sentence)}"
    if report.incidents:
        yield "Latest incidents (all: python starter.py incidents):"


def _what(kind: str, subject: str) -> str:
    return output.plain(f"{kind} {subject}".rstrip())
