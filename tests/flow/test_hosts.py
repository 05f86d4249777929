"""A P0 or an outage where a worker is started again, or where the work is on two hosts."""

from collections.abc import Sequence

import pytest
from temporalio.worker import Worker, _workflow

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from pipeline.model import (
    OPENING,
    Alert,
    AlertKind,
    Pipeline,
    Priority,
    RequirementOrder,
    RequirementState,
)
from pipeline.plan_rules import DELIVER
from tests.cluster import (
    Cluster,
    Handle,
    create_workflow_worker,
    delivered,
    recorded_incidents,
    until,
)
from tests.fakes import Script
from tests.orchestra_plans import SOLO, team_of
from worker import WORKFLOWS

RESEARCH, ROY = "Research", "Backend Implementation"
LONG = Script(lasts=True)


async def accept_p0(cluster: Cluster, *, pre_empts: bool = False) -> str:
    """A P0 that nobody has begun."""
    number = f"{cluster.number}-URGENT"
    order = RequirementOrder(
        number, "It burns.", Priority.P0, SOLO, False, None, pre_empts=pre_empts
    )
    await cluster.store.accept_all([Acceptance(order, "")])
    return number


async def until_held(reader: SdlcReader, *numbers: str, boundary: str = "") -> None:
    async def are_held() -> bool:
        views = [await reader.requirement(number) for number in numbers]
        return all(any(boundary in ("", hold.boundary) for hold in view.holds) for view in views)

    await until(are_held, f"{numbers} are held")


async def check_started_once(reader: SdlcReader, *numbers: str) -> None:
    for number in numbers:
        runs = await reader.runs(number)
        assert runs
        assert {(run.attempt, run.starts) for run in runs} == {(1, 1)}


# --- a worker that is started again ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "before", "boundary"),
    [
        (SOLO, "", OPENING),
        (team_of("Research", "Backend"), RESEARCH, ROY),
        (SOLO, ROY, "build backend"),
        (team_of("Research"), RESEARCH, DELIVER),
    ],
)
async def test_requirement_that_a_p0_holds_outlasts_its_worker(
    cluster: Cluster, sdlc_reader: SdlcReader, plan: Pipeline, before: str, boundary: str
) -> None:
    await cluster.open({before: [LONG]})
    urgent = "" if before else await accept_p0(cluster)
    handle = await cluster.start(plan)
    if before:
        await cluster.until_running(before)
        urgent = await accept_p0(cluster)
        await cluster.runs.let_end()
    await until_held(sdlc_reader, handle.id, boundary=boundary)
    await cluster.close()

    await cluster.open_again()

    await delivered(await cluster.start(SOLO, number=urgent, priority=Priority.P0), handle)
    assert (await cluster.types()).count("workflow.held") == 1
    await check_started_once(sdlc_reader, handle.id, urgent)


@pytest.mark.parametrize("order", ["suspended", "pre-empted meanwhile"])
async def test_agents_are_suspended_and_resumed_across_a_restart_of_the_worker(
    cluster: Cluster, sdlc_reader: SdlcReader, order: str
) -> None:
    """Either before the worker ends, or by a P0 that comes while there is none."""
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    if order == "suspended":
        urgent = await pre_empt(cluster)
        await until_suspended(cluster)
        await cluster.close()
    else:
        await cluster.close()
        urgent = await pre_empt(cluster)

    await cluster.open_again()

    await until_suspended(cluster)
    await cluster.until_running(ROY, 2)
    await cluster.runs.let_end(urgent.id)
    await delivered(urgent)
    await cluster.runs.let_end(handle.id)
    await delivered(handle)
    assert [run.number for run in cluster.runs.orders] == [handle.id, urgent.id]
    await check_started_once(sdlc_reader, handle.id, urgent.id)


async def pre_empt(cluster: Cluster) -> Handle:
    number = f"{cluster.number}-URGENT"
    cluster.runs.by_number[number] = LONG
    return await cluster.start(SOLO, number=number, priority=Priority.P0, pre_empts=True)


async def until_suspended(*clusters: Cluster) -> None:
    async def are_suspended() -> bool:
        return all(cluster.runs.suspended for cluster in clusters)

    await until(are_suspended, "agents are suspended")


# --- two hosts ------------------------------------------------------------------------------------


@pytest.fixture
async def pair(cluster: Cluster, other: Cluster) -> tuple[Handle, Handle]:
    """A requirement on each of two hosts, whose agents last."""
    await cluster.open({ROY: [LONG]}, room=1)
    here = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    await other.open({ROY: [LONG]}, room=1)
    there = await other.start(SOLO)
    await other.until_running(ROY)
    return here, there


async def let_end(*clusters: Cluster) -> None:
    for cluster in clusters:
        await cluster.runs.let_end()


async def test_p0_suspends_and_resumes_agents_on_every_host(
    cluster: Cluster, other: Cluster, pair: tuple[Handle, Handle], sdlc_reader: SdlcReader
) -> None:
    urgent = await cluster.start(
        team_of("Research"), number=f"{cluster.number}-P0", priority=Priority.P0, pre_empts=True
    )
    await until_suspended(cluster, other)
    await delivered(urgent)

    await let_end(cluster, other)
    await delivered(*pair)
    await check_started_once(sdlc_reader, *(handle.id for handle in pair))


async def test_p0_holds_every_host_and_one_that_is_away_follows_later(
    cluster: Cluster, other: Cluster, pair: tuple[Handle, Handle], sdlc_reader: SdlcReader
) -> None:
    here, there = pair
    urgent = await accept_p0(cluster)
    await let_end(cluster, other)
    await until_held(sdlc_reader, here.id, there.id)
    await other.close()

    await delivered(await cluster.start(SOLO, number=urgent, priority=Priority.P0), here)
    assert (await sdlc_reader.requirement(there.id)).state is not RequirementState.DELIVERED
    await other.open_again()

    await delivered(there)
    assert {run.number for run in other.runs.orders} <= {there.id, urgent}
    await check_started_once(sdlc_reader, here.id, there.id)


async def test_outage_holds_every_host_and_is_one_incident(
    cluster: Cluster, other: Cluster, pair: tuple[Handle, Handle], sdlc_reader: SdlcReader
) -> None:
    nats = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")
    for each in (cluster, other):
        each.cluster_care.alerts = [nats]
    await let_end(cluster, other)

    async def is_called() -> bool:
        return cluster.cluster_care.looks + other.cluster_care.looks > 0

    await until(is_called, "Sasha looks")
    for each in (cluster, other):
        each.cluster_care.alerts = []

    await delivered(*pair)
    assert len(await recorded_incidents(sdlc_reader)) == 1
    await check_started_once(sdlc_reader, *(handle.id for handle in pair))


async def test_a_workflow_task_of_a_busy_host_is_no_deadlock(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK has no option for it: a host that builds could lose tasks after its two seconds."""
    monkeypatch.setattr(_workflow._WorkflowWorker, "__init__", create_workflow_worker)
    plain = Worker(cluster.identity.client, task_queue="plain", workflows=WORKFLOWS)
    await cluster.open()

    assert allowed_seconds([plain]) == [2]
    assert allowed_seconds(cluster.workers) == [60]


def allowed_seconds(workers: Sequence[Worker]) -> list[float | None]:
    """How long a workflow task of those that take any may last."""
    found = (worker._workflow_worker for worker in workers)
    return [each._deadlock_timeout_seconds for each in found if each]
