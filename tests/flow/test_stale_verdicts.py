"""A verdict stands only for the work that it has seen (design, section 3)."""

import asyncio
from collections.abc import Sequence

import pytest

from pipeline.model import RequirementState, RetryRequest
from tests.cluster import REPAIR, Cluster, Handle, Scripts
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.plans import a_plan, a_stage
from workflows.requirement import RequirementWorkflow

BILLY, LIZ, TODD, VIC = "Backend QA", "Frontend QA", "Performance Testing", "Security Testing"
PRIYA, BERRY = "Statistics", "DevOps Deployment"
FIX_TODD, FIX_VIC = f"Fix run {TODD}", f"Fix verdict {VIC}"
LEAKS = Script({"test_result": "FAIL", "failures": ["leaks"], "owner": "backend"})
ASKS = Script({"status": "BLOCKED", "summary": "which load?"}, minutes=1)
CRASH = Script(exit_code=1, output="no notice")
PASS = Script()


def flags(*names: str, minutes: float = 45) -> Script:
    return Script({f"needs_{name}": True for name in names}, minutes=minutes)


async def started(cluster: Cluster, scripts: Scripts, pipeline: str = "standard") -> Handle:
    await cluster.open(scripts)
    return await cluster.start(pipeline, bounds=REPAIR)


async def delivered(cluster: Cluster, handle: Handle) -> Sequence[str]:
    """The stages in the order of their starts."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report
    return cluster.runs.started()


async def test_tester_whose_fix_ran_beside_an_implementers_judges_again(cluster: Cluster) -> None:
    lasting = Script(lasts=True)
    scripts = {
        BILLY: [flags("todd", "vic")],
        TODD: [CRASH, PASS],
        VIC: [LEAKS, PASS],
        FIX_TODD: [lasting],
        FIX_VIC: [lasting],
    }
    handle = await started(cluster, scripts)
    for fix in (FIX_TODD, FIX_VIC):
        await cluster.until_running(fix)
    await cluster.runs.let_end()
    order = await delivered(cluster, handle)

    assert order.count(FIX_TODD) == 1
    assert order.count(TODD) == 2
    assert order[::-1].index(TODD) < order[::-1].index(FIX_VIC)


async def test_repeated_verdict_may_ask_for_a_specialist_who_was_skipped(cluster: Cluster) -> None:
    red = Script({"overall": "FAIL", "failures": ["slow"], "owner": "backend"})
    scripts = {BILLY: [PASS, flags("vic")], PRIYA: [red, PASS]}
    order = await delivered(cluster, await started(cluster, scripts))

    assert (order.count(VIC), order.count(TODD)) == (1, 0)
    assert order[::-1].index(PRIYA) < order[::-1].index(VIC)
    assert BERRY in order[order.index(VIC) :]


async def test_tester_retried_beside_a_fix_judges_again_what_was_merged_meanwhile(
    cluster: Cluster,
) -> None:
    scripts = {
        BILLY: [flags("todd", "vic")],
        TODD: [ASKS, Script(lasts=True), PASS],
        VIC: [LEAKS, PASS],
        FIX_VIC: [Script(lasts=True)],
    }
    handle = await started(cluster, scripts)
    await cluster.until_running(FIX_VIC)
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(TODD, "ada"))
    await cluster.until_running(TODD, 2)
    await cluster.runs.let_end(FIX_VIC)
    await cluster.until_running(VIC, 2)  # what was merged meanwhile
    await cluster.runs.let_end()

    assert (await delivered(cluster, handle)).count(TODD) == 3


@pytest.mark.parametrize("pipeline", ["standard", "critical-path", "final-stages"])
async def test_nothing_continues_below_a_stale_verdict(cluster: Cluster, pipeline: str) -> None:
    """billy must judge the fix before vic does, and before anything is deployed."""
    scripts = {BILLY: [flags("vic"), flags("vic", minutes=500)], VIC: [LEAKS, PASS]}
    order = await delivered(cluster, await started(cluster, scripts, pipeline))

    second = [place for place, stage in enumerate(order) if stage == BILLY][1]
    assert [place for place, stage in enumerate(order) if stage == VIC][1] > second
    assert order.index(BERRY) > second
    assert order.index(PRIYA) > second


async def test_specialist_who_is_not_asked_for_again_is_skipped(cluster: Cluster) -> None:
    red = Script({"overall": "FAIL", "failures": ["slow"], "owner": "backend"})
    order = await delivered(
        cluster, await started(cluster, {BILLY: [flags("todd"), PASS], PRIYA: [red, PASS]})
    )

    assert (order.count(TODD), order.count(BILLY), order.count(PRIYA)) == (1, 2, 2)


async def test_implementer_who_was_skipped_makes_nothing_stale(cluster: Cluster) -> None:
    plan = a_plan(
        a_stage("Work", "roy", minutes=1),
        a_stage("Test", "billy", ["Work"], minutes=1),
        a_stage("Tune", "roy", ["Test"], minutes=1, flag="needs_todd"),
        a_stage("Measure", "priya", ["Tune"], minutes=1),
    )
    await cluster.open()
    order = await delivered(cluster, await cluster.start(plan, bounds=REPAIR))

    assert order == ["Work", "Test", "Measure"]
