"""What no row of a requirement can say: no worker, a dependency missing, or a Temporal not ours.

While a dependency is missing, nothing can be recorded; until then only Sasha's workflow knows whom
it holds up.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from adapters.agent_checks import split_by_need, what_is_missing
from adapters.current_agents import read_in_use
from adapters.health_probe import WORKER_FILE
from adapters.temporal.client import reaching_temporal
from adapters.waiting import within
from cli import output
from cli.connections import temporal_client
from cli.inputs import pipelines_here
from cli.installation import installation_of, proved_binding
from pipeline.agents_file import AgentsFile, strangers
from pipeline.errors import DependencyUnavailable, WrongInstallation
from pipeline.installation import Installation
from pipeline.model import DEPENDENCIES, AlertKind, Pipeline, RequirementState, SashaStatus
from settings import Settings
from workflows.sasha import SashaWorkflow

_AWAY = (AlertKind.NATS_DOWN, AlertKind.DATABASE_DOWN)
_QUERY_SECONDS = 3.0
_HINT_SECONDS = 1.5
"""A hint must not keep anybody waiting who looks at a requirement."""


@dataclass(frozen=True)
class Hints:
    """The installation, and what is missing or wrong, each empty if it is not."""

    installation: str | None
    missing_dependency: str = ""
    wrong_installation: str = ""
    missing_worker: str = ""
    broken_agents_file: str = ""

    def write(self) -> None:
        """Print those that there are."""
        if self.missing_dependency:
            output.hint(
                f"{self.missing_dependency} is not available; nothing continues without it:"
                " python starter.py doctor"
            )
        if self.wrong_installation:
            output.hint(self.wrong_installation)
        if self.missing_worker:
            output.hint(self.missing_worker)
        if self.broken_agents_file:
            output.hint(self.broken_agents_file)


def is_under_way(state: RequirementState) -> bool:
    """Whether a missing dependency would hold up a requirement in this state."""
    return not (state.is_final or state is RequirementState.ACCEPTED)


async def answer_of_sasha(settings: Settings) -> SashaStatus | None:
    """The status of Sasha's workflow, or None if it does not answer in time."""
    try:
        return await within(_HINT_SECONDS, _asked(settings))
    except (DependencyUnavailable, RPCError, WorkflowQueryFailedError, TimeoutError):
        return None


async def _asked(settings: Settings) -> SashaStatus | None:
    if installation := await installation_of(settings):
        return await sasha_status(await temporal_client(settings), installation)
    return None


async def sasha_status(client: Client, installation: Installation) -> SashaStatus:
    """The answer of Sasha's workflow to a query.

    Raises: DependencyUnavailable, RPCError if the workflow or a worker is not there,
        WorkflowQueryFailedError.
    """
    handle = client.get_workflow_handle_for(SashaWorkflow.run, installation.sasha)
    with reaching_temporal(client):
        return await handle.query(
            SashaWorkflow.status, rpc_timeout=timedelta(seconds=_QUERY_SECONDS)
        )


def missing_dependency(status: SashaStatus | None, numbers: Collection[str]) -> str:
    """The dependency without which nothing continues, or an empty text.

    It is one that Sasha repairs now, or one that a requirement of `numbers` waits for; without
    `numbers`, one that any requirement waits for.
    """
    if status is None:
        return ""
    callers = {each.dependency: each.callers for each in status.waiting}
    wanted = set(numbers) or {name for names in callers.values() for name in names}
    waited_for = {name for name in callers if not wanted.isdisjoint(callers[name])}
    remediated = {
        remediation.alert.component
        for remediation in status.remediations
        if remediation.alert.kind in _AWAY
    }
    missing = [name for name, component in DEPENDENCIES.items() if component in remediated]
    # A host's disk concerns only the requirements that wait for it: the others continue.
    return next(iter([*missing, *sorted(waited_for)]), "")


def agents_warnings(
    settings: Settings, agents: AgentsFile, pipelines: Sequence[Pipeline]
) -> tuple[str, ...]:
    """What will keep agents or builds of these pipelines from their work.

    A worker of this host has looked itself, in its own environment; without one, this command does.
    """
    unknown = tuple(
        f"{each}." for each in strangers(agents, (*pipelines_here(settings), *pipelines))
    )
    if in_use := read_in_use(settings.home):
        told = (in_use.told,) if in_use.problem else ()
        missing, _ = split_by_need(in_use.missing, agents, pipelines)
        return (*told, *(f"{each}." for each in (*missing, *in_use.outdated)), *unknown)
    missing = what_is_missing(agents, settings.children_environment, pipelines)
    needed = (f"{each}. The worker needs it, and may have it." for each in missing)
    return (*needed, *unknown)


def broken_agents_file(settings: Settings, hosts: Collection[str | None]) -> str:
    """The complaint that the worker of this host cannot use an edit; else an empty text."""
    in_use = read_in_use(settings.home) if settings.host in hosts else None
    return in_use.told if in_use else ""


def missing_worker(settings: Settings, hosts: Collection[str | None]) -> str:
    """The complaint that no worker lives on this host, if it is among them; else an empty text."""
    if settings.host not in hosts:
        return ""
    try:
        worker = json.loads((settings.home / WORKER_FILE).read_bytes())
        if Path(f"/proc/{worker['pid']}").exists():
            return ""
    except FileNotFoundError:
        pass
    return (
        f"No worker runs on this host, {settings.host}. Running agents continue; nothing else does"
        " until one is started: python worker.py, or python starter.py up"
    )


async def wrong_installation(settings: Settings) -> str:
    """The complaint about a Temporal that belongs to another installation, or an empty text.

    Nothing of ours continues at this address then, whatever the rows say. Empty also if Temporal
    or the database does not answer in time.
    """
    try:
        await within(_HINT_SECONDS, proved_binding(settings))
    except WrongInstallation as stranger:
        return str(stranger)
    except (DependencyUnavailable, RPCError, TimeoutError):
        pass
    return ""
