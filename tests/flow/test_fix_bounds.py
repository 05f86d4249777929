"""Where repairing ends: fixes of fixes, bounds, and what no fix is opened for."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from temporalio.client import WorkflowExecutionStatus

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    Answer,
    DecisionRequest,
    Pipeline,
    RequirementState,
    RunEnd,
)
from tests.cluster import REPAIR, Cluster, ended, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.plans import a_plan, a_stage
from tests.repairs import (
    BILLY,
    CRASH,
    FIX_BACKEND,
    JEN,
    LATE,
    ROY,
    counts,
    deliver,
    fail,
    until_asked,
)
from workflows.requirement import RequirementWorkflow


async def test_fix_that_fails_gets_a_fix_of_its_own(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await deliver(cluster, {FIX_BACKEND: [CRASH, CRASH, Script()]}, {"backend": [2, 0]})

    first = await sdlc_reader.requirement(f"{cluster.number}-FIX-1")
    second = await sdlc_reader.requirement(f"{cluster.number}-FIX-1-FIX-1")
    assert (first.state, second.state) == (RequirementState.FAILED, RequirementState.DELIVERED)
    shown = [(await cluster.handle(fix.number).describe()).status for fix in (first, second)]
    assert shown == [WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.COMPLETED]
    assert second.parent == first.number
    assert [f.kind for f in await sdlc_reader.failures(first.number)] == ["crash"]


async def test_fix_of_a_fix_is_told_what_is_to_be_repaired_and_what_came_of_it(
    cluster: Cluster,
) -> None:
    await deliver(cluster, {FIX_BACKEND: [CRASH, CRASH, Script()]}, {"backend": [2, 0]})

    prompt = cluster.runs.order(FIX_BACKEND).prompt
    assert "build backend is red" in prompt
    assert "error TS2345" in prompt
    assert f"{cluster.number}-FIX-1 did not repair it" in prompt


async def test_depth_three_asks_a_human(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    asked = await until_asked(cluster, {FIX_BACKEND: [LATE]}, {"backend": [2]})

    assert "2 deep" in asked["asks"][0]["reason"]
    assert asked["answers"] == [f"retry '{ROY}'", "decide abort"]
    numbers = [summary.number for summary in await sdlc_reader.requirements()]
    assert sorted(n for n in numbers if n.startswith(f"{cluster.number}-")) == [
        f"{cluster.number}-FIX-1",
        f"{cluster.number}-FIX-1-FIX-1",
    ]


async def test_third_red_asks_a_human(cluster: Cluster) -> None:
    words = [fail("one"), fail("two"), fail("three")]
    asked = await until_asked(cluster, {BILLY: words})

    assert "third time" in asked["asks"][0]["reason"]
    assert counts(cluster, f"Fix verdict {BILLY}", BILLY) == [2, 3]


async def test_same_words_twice_ask_a_human_at_once(cluster: Cluster) -> None:
    asked = await until_asked(cluster, {BILLY: [fail("one")]})

    assert "same words" in asked["asks"][0]["reason"]
    assert counts(cluster, f"Fix verdict {BILLY}", BILLY) == [1, 2]


async def test_lost_infrastructure_opens_no_fix(cluster: Cluster) -> None:
    asked = await until_asked(cluster, {"Research": [Script(end=RunEnd.LOST)]})

    assert "infrastructure" in asked["asks"][0]["reason"]
    assert counts(cluster, "Research", "Fix run Research") == [3, 0]


async def test_blocked_agent_asks_while_what_else_failed_is_repaired(cluster: Cluster) -> None:
    scripts = {ROY: [Script({"status": "BLOCKED", "summary": "which database?"})], JEN: [CRASH]}
    asked = await until_asked(cluster, scripts)

    async def is_repaired() -> bool:
        return counts(cluster, f"Fix run {JEN}") == [1]

    await until(is_repaired, "jen's crash is repaired")
    assert [ask["gate"] for ask in asked["asks"]] == [f"run {ROY}"]


async def test_deployment_that_fails_is_a_humans_to_repeat_through_its_gates(
    cluster: Cluster,
) -> None:
    asked = await until_asked(cluster, {"DevOps Deployment": [CRASH]})

    assert asked["answers"] == ["retry 'DevOps Deployment'", "decide abort"]
    assert counts(cluster, "DevOps Deployment", "Fix run DevOps Deployment") == [1, 0]


def two_sides() -> Pipeline:
    """One stage stands on roy's side alone, another one on both."""
    roy = replace(a_stage("Roy", "roy", minutes=1), builds=("backend",))
    jen = replace(a_stage("Jen", "jen", minutes=400), builds=("frontend",))
    return a_plan(roy, jen, a_stage("One", needs=["Roy"]), a_stage("Both", needs=["Roy", "Jen"]))


async def test_build_that_later_work_turns_green_lets_everybody_go_on(cluster: Cluster) -> None:
    await cluster.open(builds={"backend": [2, 0]})
    handle = await cluster.start(two_sides(), bounds=REPAIR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert counts(cluster, "One", "Both", FIX_BACKEND) == [1, 1, 0]


async def test_build_that_is_red_on_two_commits_of_a_round_is_red_once(cluster: Cluster) -> None:
    await cluster.open(builds={"backend": [2, 2, 0]})
    handle = await cluster.start(two_sides(), bounds=REPAIR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert counts(cluster, FIX_BACKEND) == [1]


async def test_fix_that_waits_for_its_turn_is_cancelled_with_its_requirement(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    red = Script({"overall": "FAIL", "failures": ["slow"]})
    slow = Script(minutes=600_000)
    await cluster.open({"Statistics": [red], "Fix verdict Statistics": [slow]})
    beat = timedelta(seconds=1)
    handle = await cluster.start(bounds=REPAIR, sequential=True, heartbeat=beat)

    async def is_at_work() -> bool:
        return counts(cluster, "Fix verdict Statistics") == [1]

    await until(is_at_work, "the first fix runs")
    abort = DecisionRequest(Answer.ABORT, "ada")
    await handle.execute_update(RequirementWorkflow.decide, abort)
    await ended(handle)

    fixes = (await sdlc_reader.requirement(cluster.number)).fixes
    assert [fix.state for fix in fixes] == [RequirementState.CANCELLED] * 2
