"""What Sasha's workflow says of itself, and which dependency keeps a requirement from going on.

A hold by a dependency becomes a row when that is back: until then she alone knows of it.
"""

from collections.abc import Collection
from datetime import timedelta

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from adapters.temporal.client import reaching_temporal
from adapters.waiting import within
from cli.connections import temporal_client
from cli.installation import installation_of
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from pipeline.model import DEPENDENCIES, SashaStanding, SymptomKind
from settings import Settings
from workflows.sasha import SashaWorkflow

_AWAY = (SymptomKind.NATS_DOWN, SymptomKind.DATABASE_DOWN)
_QUERY_SECONDS = 3.0
_HINT_SECONDS = 1.5
"""Who looks at a requirement is not kept waiting for a hint."""


async def sasha_standing(client: Client, installation: Installation) -> SashaStanding:
    """Her own answer.

    Raises: DependencyUnavailable, RPCError if she or a worker is not there,
        WorkflowQueryFailedError.
    """
    handle = client.get_workflow_handle_for(SashaWorkflow.run, installation.sasha)
    with reaching_temporal(client):
        return await handle.query(
            SashaWorkflow.standing, rpc_timeout=timedelta(seconds=_QUERY_SECONDS)
        )


async def hint_of_sasha(settings: Settings) -> SashaStanding | None:
    """What she says of herself, or None if she says nothing in time."""
    try:
        return await within(_HINT_SECONDS, _asked(settings))
    except (DependencyUnavailable, RPCError, WorkflowQueryFailedError, TimeoutError):
        return None


def missing_dependency(standing: SashaStanding | None, numbers: Collection[str]) -> str:
    """The dependency that is away, if any: no boundary is passed without it.

    Either she treats it, or one of those requirements waits for it; without `numbers` any one.
    Empty also if she does not say.
    """
    if standing is None:
        return ""
    callers = {each.dependency: each.callers for each in standing.waiting}
    wanted = set(numbers) or {name for names in callers.values() for name in names}
    waited_for = {name for name in callers if not wanted.isdisjoint(callers[name])}
    treated = {case.symptom.component for case in standing.cases if case.symptom.kind in _AWAY}
    missing = [name for name, component in DEPENDENCIES.items() if component in treated]
    # Of a host's disk only those are told who wait for it: the others go on.
    return next(iter([*missing, *sorted(waited_for)]), "")


async def _asked(settings: Settings) -> SashaStanding | None:
    installation = await installation_of(settings)
    return (
        await sasha_standing(await temporal_client(settings), installation)
        if installation
        else None
    )
