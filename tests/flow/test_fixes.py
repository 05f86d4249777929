"""Failures find their owners, are repaired, and the requirement continues."""

import asyncio

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    RequirementState,
    RetryRequest,
    StageState,
)
from tests.cluster import REPAIR, Cluster, delivered
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.repairs import (
    BILLY,
    CRASH,
    FIX_BACKEND,
    FIX_FRONTEND,
    JEN,
    LATE,
    LIZ,
    ROY,
    counts,
    deliver,
    fail,
    interval,
)
from workflows.requirement import RequirementWorkflow


async def test_broken_build_is_repaired_and_nothing_that_was_green_runs_again(
    cluster: Cluster,
) -> None:
    await deliver(cluster, builds={"backend": [2, 0]})

    assert counts(cluster, "Research", "Critique", ROY, JEN, FIX_BACKEND, BILLY) == [1] * 6
    started = cluster.runs.started()
    assert started.index(FIX_BACKEND) < started.index(BILLY)


async def test_requirement_resumes_once_and_after_its_gate_is_green(cluster: Cluster) -> None:
    await deliver(cluster, {BILLY: [fail("one"), fail("two"), Script()]})

    told = [(e["eventType"], e.get("stage")) for e in await cluster.events()]
    types = [kind for kind, _ in told]
    assert types.count("workflow.blocked") == 2
    assert types.count("workflow.resumed") == 1
    assert types.index("workflow.resumed") > told.index(("stage.completed", BILLY))


async def test_two_broken_builds_are_repaired_side_by_side(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    fixes = {FIX_BACKEND: [Script(lasts=True)], FIX_FRONTEND: [Script(lasts=True)]}
    await cluster.open(fixes, {"backend": [2, 0], "frontend": [1, 0]})
    handle = await cluster.start(bounds=REPAIR)
    for fix in fixes:
        await cluster.until_running(fix)
    await cluster.runs.let_end()
    await delivered(handle)

    blocked = await cluster.blocked()
    assert {f["gate"] for f in blocked["failures"]} == {"build backend", "build frontend"}
    (start, end), (other_start, other_end) = [
        await interval(sdlc_reader, cluster, n) for n in (1, 2)
    ]
    assert max(start, other_start) < min(end, other_end)


async def test_fix_is_a_requirement_with_parent_priority_and_assignee(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await deliver(cluster, builds={"backend": [2, 0]})

    fix = await sdlc_reader.requirement(f"{cluster.number}-FIX-1")
    parent = await sdlc_reader.requirement(cluster.number)
    assert (fix.parent, fix.priority) == (cluster.number, parent.priority)
    assert fix.state is RequirementState.DELIVERED
    assert [stage.stage for stage in fix.stages] == [FIX_BACKEND]


async def test_agent_of_a_fix_is_told_its_task_its_work_and_the_failure(cluster: Cluster) -> None:
    own = Script({"summary": "I wrote greet()"})
    await deliver(cluster, {ROY: [own]}, {"backend": [2, 0]})

    prompt = cluster.runs.order(FIX_BACKEND).prompt
    for told in (
        "A description",
        "I wrote greet()",
        "build backend is red",
        "error TS2345: backend does not compile",
        "- `backend.log` (0 bytes): build backend",
        f"This is a fix for {cluster.number}",
    ):
        assert told in prompt


async def test_second_fix_is_told_what_the_first_one_tried(cluster: Cluster) -> None:
    tried = Script({"summary": "I renamed greet()"})
    script = [fail("greet() is wrong"), fail("greet() is still wrong"), Script()]
    await deliver(cluster, {BILLY: script, f"Fix verdict {BILLY}": [tried]})

    assert counts(cluster, f"Fix verdict {BILLY}", BILLY, LIZ) == [2, 3, 1]
    prompt = cluster.runs.order(f"Fix verdict {BILLY}").prompt
    assert "I renamed greet()" in prompt
    assert "greet() is still wrong" in prompt


async def test_failed_tests_of_both_sides_go_to_both_owners(cluster: Cluster) -> None:
    scripts = {BILLY: [fail("a"), Script()], LIZ: [fail("b"), Script()]}
    await deliver(cluster, scripts)

    owners = [o.agent for o in cluster.runs.orders if o.stage.startswith("Fix verdict")]
    assert sorted(owners) == ["jen", "roy"]
    assert counts(cluster, BILLY, LIZ, ROY, JEN) == [2, 2, 1, 1]


async def test_verdicts_of_a_changed_side_are_given_again_and_others_stand(
    cluster: Cluster,
) -> None:
    """vic fails for roy's side: billy and todd have reviewed what the fix has changed."""
    flags = Script({"needs_todd": True, "needs_vic": True})
    red = Script({"test_result": "FAIL", "failures": ["leaks"], "owner": "backend"})
    await deliver(cluster, {BILLY: [flags], "Security Testing": [red, Script()]})

    assert counts(cluster, BILLY, LIZ, "Performance Testing", "Security Testing") == [2, 1, 2, 2]


async def test_crashed_run_is_replaced_by_its_fix(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    told = Script({"summary": "measured at last", "overall": "PASS"})
    await deliver(cluster, {"Statistics": [LATE], "Fix run Statistics": [told]})

    assert counts(cluster, "Statistics", "Fix run Statistics", "DevOps Deployment") == [1, 1, 1]
    assert "measured at last" in cluster.runs.order("DevOps Deployment").prompt
    view = await sdlc_reader.requirement(cluster.number)
    assert {s.state for s in view.stages} == {StageState.COMPLETED, StageState.SKIPPED}


async def test_flags_that_a_fix_raises_count(cluster: Cluster) -> None:
    flag = Script({"test_result": "PASS", "needs_vic": True})
    await deliver(cluster, {LIZ: [CRASH], f"Fix run {LIZ}": [flag]})

    assert counts(cluster, "Security Testing", "Performance Testing") == [1, 0]


async def test_red_verdict_of_a_fix_is_an_answer_and_goes_to_the_owner(cluster: Cluster) -> None:
    scripts = {LIZ: [CRASH, Script()], f"Fix run {LIZ}": [fail("page is blank")]}
    await deliver(cluster, scripts)

    assert cluster.runs.order(f"Fix verdict {LIZ}").agent == "jen"
    assert counts(cluster, LIZ, f"Fix run {LIZ}") == [2, 1]


async def test_notes_of_people_reach_fixes(cluster: Cluster) -> None:
    scripts = {ROY: [Script({"status": "BLOCKED", "summary": "which database?"}), Script()]}
    await cluster.open(scripts, {"backend": [2, 0]})
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_blocked(handle)
    answer = RetryRequest(ROY, "ada", "use postgres")
    await handle.execute_update(RequirementWorkflow.retry, answer)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await handle.result()

    assert "use postgres" in cluster.runs.order(FIX_BACKEND).prompt


@pytest.mark.parametrize("pipeline", ["critical-path", "final-stages"])
async def test_every_shipped_pipeline_is_repaired(cluster: Cluster, pipeline: str) -> None:
    await deliver(cluster, {LIZ: [fail("a"), Script()]}, {"backend": [2, 0]}, pipeline=pipeline)

    assert counts(cluster, FIX_BACKEND, f"Fix verdict {LIZ}") == [1, 1]


async def test_one_after_another_where_parallel_execution_is_off(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    builds = {"backend": [2, 0], "frontend": [1, 0]}
    await deliver(cluster, {}, builds, pipeline="critical-path", sequential=True)

    (start, end), (other_start, other_end) = [
        await interval(sdlc_reader, cluster, n) for n in (1, 2)
    ]
    assert end <= other_start or other_end <= start
