import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

import worker
from pipeline.model import ExtensionRequest, Priority
from tests.cluster import Cluster, Handle, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.orchestra_plans import SOLO
from workflows.requirement import RequirementWorkflow


async def running_research(cluster: Cluster) -> Handle:
    await cluster.open({"Research": [Script(minutes=60_000)]})
    handle = await cluster.start()

    async def is_running() -> bool:
        return bool(cluster.runs.started())

    await until(is_running, "Research runs")
    return handle


async def extend(handle: Handle, minutes: float) -> str:
    request = ExtensionRequest("Research", minutes, "ada", "nearly done")
    return await handle.execute_update(RequirementWorkflow.extend, request)


async def test_refused_extension_is_not_counted_by_the_next(cluster: Cluster) -> None:
    handle = await running_research(cluster)
    cluster.runs.refused_extensions = 1

    with pytest.raises(WorkflowUpdateFailedError):
        await extend(handle, 30)
    run_id = await extend(handle, 10)

    # twice 45 minutes, and 10
    assert [(r, d.total_seconds() / 60) for r, d in cluster.runs.extensions] == [(run_id, 100)]


async def test_extensions_at_the_same_time_add_up(cluster: Cluster) -> None:
    handle = await running_research(cluster)

    await asyncio.gather(extend(handle, 10), extend(handle, 20))

    assert max(d.total_seconds() / 60 for _, d in cluster.runs.extensions) == 120


async def test_extension_waits_for_no_build(cluster: Cluster) -> None:
    handle = await running_research(cluster)
    cluster.runs.by_number["REQ-BUILDS"] = Script()
    cluster.builds.minutes = {
        "backend": 60_000,
        "frontend": 60_000,
    }  # every slot for builds is taken
    await cluster.start(number="REQ-BUILDS")

    async def is_building() -> bool:
        return len(cluster.builds.requests) >= 2

    await until(is_building, "both builds are under way")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await extend(handle, 10)


async def test_what_a_host_is_asked_waits_for_no_stage(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host has room for so many stages that wait for a slot, and they may wait for days."""
    monkeypatch.setattr(worker, "_AGENT_SLOTS", 1)
    handle = await running_research(cluster)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await extend(handle, 10)
    await cluster.start(SOLO, number="REQ-URGENT", priority=Priority.P0, pre_empts=True)

    async def does_stand() -> bool:
        return bool(cluster.runs.suspended)

    await until(does_stand, "its agent is suspended")
