"""What Sasha does, what she has done, and what she would do about what is wrong right now.

Every part is found out by itself: what cannot be is told, and fails nothing. Nothing is treated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from adapters.bounded import within
from adapters.sdlc_views import IncidentView, ListedRequirement
from adapters.temporal_workflows import workflow_standing
from cli.checks import LOOK_SECONDS
from cli.connections import temporal_client
from cli.installation import installation_of
from cli.records import records
from cli.sasha_looks import Advice, advice_on_host, advice_on_house
from cli.sasha_standing import sasha_standing
from pipeline.errors import PipelineError
from pipeline.infrastructure import is_infrastructure
from pipeline.installation import Installation
from pipeline.model import RequirementState, SashaStanding
from settings import Settings

T = TypeVar("T")

_INCIDENTS = 5
_OPEN = tuple(state for state in RequirementState if not state.is_final)


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
        _noting(report, "Her incidents", lambda: _read_records(report, settings)),
        _noting(report, "Sasha in Temporal", lambda: _ask_temporal(report, settings)),
    )
    return report


async def _noting(report: SashaReport, what: str, look: Callable[[], Awaitable[None]]) -> None:
    """Take a look; why it found nothing stands in the report."""
    try:
        await within(LOOK_SECONDS, _awaited(look))
    except (PipelineError, RPCError, WorkflowQueryFailedError, TimeoutError, OSError) as error:
        report.unknown.append(f"{what}: {error}")


async def _awaited(look: Callable[[], Awaitable[None]]) -> None:
    await look()


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
        _noting(report, "What she treats", lambda: _ask_her(report, client, installation)),
        _noting(
            report, "The house", lambda: _look_at_house(report, settings, client, installation)
        ),
        _noting(report, "This host", lambda: _look_at_host(report, settings, client, installation)),
    )


async def _ask_her(report: SashaReport, client: Client, installation: Installation) -> None:
    standing = await workflow_standing(client, installation.sasha)
    report.is_there = standing is not None and not standing.has_ended
    if report.is_there:
        report.standing = await sasha_standing(client, installation)


async def _look_at_house(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    found = await advice_on_house(settings, client, installation)
    report.would_do += found


async def _look_at_host(
    report: SashaReport, settings: Settings, client: Client, installation: Installation
) -> None:
    found = await advice_on_host(settings, client, installation)
    report.would_do += found
