"""Histories stay small, however long a requirement takes."""

import asyncio
from datetime import timedelta

from temporalio.testing import WorkflowEnvironment

from adapters.temporal.messages import TemporalNotifier
from pipeline.model import (
    Closing,
    Priority,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    RetryRequest,
)
from tests.cluster import NO_REPAIR, REPAIR, Cluster, Handle
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.orchestra_plans import SOLO
from workflows.requirement import RequirementWorkflow

BILLY, LIZ = "Backend QA", "Frontend QA"
ASKS = Script({"status": "BLOCKED", "summary": "which database?"}, minutes=0)
LIMIT = 51_200
"""Temporal ends a workflow whose history has so many events."""


async def retried(cluster: Cluster, handle: Handle, stage: str, times: int) -> None:
    for _ in range(times):
        await cluster.until_blocked(handle)
        await handle.execute_update(RequirementWorkflow.retry, RetryRequest(stage, "ada"))


async def test_requirement_that_is_retried_without_end_continues_as_new(cluster: Cluster) -> None:
    times = 60
    await cluster.open({"Research": [*[ASKS] * times, Script()]})
    handle = await cluster.start(bounds=NO_REPAIR)
    await retried(cluster, handle, "Research", times)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert len(await cluster.chain(handle.id)) == 2
    assert cluster.runs.started().count("Research") == times + 1
    assert [o.attempt for o in cluster.runs.orders if o.stage == "Research"] == [
        *range(1, times + 2)
    ]
    ids = [event["eventId"] for event in await cluster.events()]
    assert len(set(ids)) == len(ids)
    assert ids.count(f"{ids[0].partition(':')[0]}:workflow.started:1") == 1


async def test_hold_of_a_month_stays_far_below_the_limit(
    day_cluster: Cluster, skipping: WorkflowEnvironment
) -> None:
    cluster, urgent = day_cluster, f"{day_cluster.number}-P0"
    await cluster.open()
    order = RequirementOrder(urgent, "It burns.", Priority.P0, SOLO, False, None)
    await cluster.store.accept(order, "Nobody begins it.")
    handle = await cluster.start(SOLO)
    await skipping.sleep(timedelta(days=30))

    closing = Closing(RequirementRef(urgent, "none"), RequirementState.CANCELLED, "Never mind.")
    await cluster.store.close_requirement(closing)
    await TemporalNotifier(skipping.client).notify(await cluster.store.to_notify())
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    (history,) = await cluster.chain(handle.id)
    assert 1_000 < len(history.events) < LIMIT / 20


async def test_longest_repair_stays_far_below_the_limit(cluster: Cluster) -> None:
    """Every gate is red as often as it may be, and every fix fails once."""

    def fail(*words: str) -> list[Script]:
        said = [Script({"test_result": "FAIL", "failures": [word]}) for word in words]
        return [*said, Script()]

    late = Script(exit_code=1, output="?")
    flags = Script({"needs_todd": True, "needs_vic": True})
    scripts = {
        "Critique": [Script({"critique_verdict": "REQUEST_CHANGES"})] * 2 + [Script()],
        BILLY: [*fail("a", "b")[:-1], flags],
        LIZ: fail("c", "d"),
        "Performance Testing": fail("e", "f"),
        "Security Testing": fail("g", "h"),
        **{
            f"Fix verdict {stage}": [late, late, Script()]
            for stage in (BILLY, LIZ, "Performance Testing", "Security Testing")
        },
    }
    await cluster.open(scripts)
    handle = await cluster.start(bounds=REPAIR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    lengths = [len(history.events) for history in await cluster.family(handle.id)]
    assert max(lengths) < LIMIT / 50
