"""Failures find their owners, are repaired, and the requirement goes on."""

import asyncio

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    RequirementState,
    RetryRequest,
    StageState,
)
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.house import REPAIR, House
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
    house: House,
) -> None:
    await deliver(house, builds={"backend": [2, 0]})

    assert counts(house, "Research", "Critique", ROY, JEN, FIX_BACKEND, BILLY) == [1] * 6
    started = house.runs.started()
    assert started.index(FIX_BACKEND) < started.index(BILLY)


async def test_requirement_resumes_once_and_after_its_gate_is_green(house: House) -> None:
    await deliver(house, {BILLY: [fail("one"), fail("two"), Script()]})

    told = [(e["eventType"], e.get("stage")) for e in await house.events()]
    types = [kind for kind, _ in told]
    assert types.count("workflow.blocked") == 2
    assert types.count("workflow.resumed") == 1
    assert types.index("workflow.resumed") > told.index(("stage.completed", BILLY))


async def test_two_broken_builds_are_repaired_side_by_side(
    house: House, sdlc_reader: SdlcReader
) -> None:
    fixes = {FIX_BACKEND: [Script(minutes=300)], FIX_FRONTEND: [Script(minutes=300)]}
    await deliver(house, fixes, {"backend": [2, 0], "frontend": [1, 0]})

    blocked = await house.blocked()
    assert {f["gate"] for f in blocked["failures"]} == {"build backend", "build frontend"}
    (start, end), (other_start, other_end) = [await interval(sdlc_reader, house, n) for n in (1, 2)]
    assert max(start, other_start) < min(end, other_end)


async def test_fix_is_a_requirement_with_parent_priority_and_assignee(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await deliver(house, builds={"backend": [2, 0]})

    fix = await sdlc_reader.requirement(f"{house.number}-FIX-1")
    parent = await sdlc_reader.requirement(house.number)
    assert (fix.parent, fix.priority) == (house.number, parent.priority)
    assert fix.state is RequirementState.DELIVERED
    assert [stage.stage for stage in fix.stages] == [FIX_BACKEND]


async def test_agent_of_a_fix_is_told_its_task_its_work_and_the_failure(house: House) -> None:
    own = Script({"summary": "I wrote greet()"})
    await deliver(house, {ROY: [own]}, {"backend": [2, 0]})

    prompt = house.runs.order(FIX_BACKEND).prompt
    for told in (
        "A description",
        "I wrote greet()",
        "build backend is red",
        "error TS2345: backend does not compile",
        "Log: backend.log",
        f"This is a fix for {house.number}",
    ):
        assert told in prompt


async def test_second_fix_is_told_what_the_first_one_tried(house: House) -> None:
    tried = Script({"summary": "I renamed greet()"})
    script = [fail("greet() is wrong"), fail("greet() is still wrong"), Script()]
    await deliver(house, {BILLY: script, f"Fix verdict {BILLY}": [tried]})

    assert counts(house, f"Fix verdict {BILLY}", BILLY, LIZ) == [2, 3, 1]
    prompt = house.runs.order(f"Fix verdict {BILLY}").prompt
    assert "I renamed greet()" in prompt
    assert "greet() is still wrong" in prompt


async def test_failed_tests_of_both_sides_go_to_both_owners(house: House) -> None:
    scripts = {BILLY: [fail("a"), Script()], LIZ: [fail("b"), Script()]}
    await deliver(house, scripts)

    owners = [o.agent for o in house.runs.orders if o.stage.startswith("Fix verdict")]
    assert sorted(owners) == ["jen", "roy"]
    assert counts(house, BILLY, LIZ, ROY, JEN) == [2, 2, 1, 1]


async def test_verdicts_of_a_changed_side_are_given_again_and_others_stand(house: House) -> None:
    """vic fails for roy's side: billy and todd have judged what the fix has changed."""
    flags = Script({"needs_todd": True, "needs_vic": True})
    red = Script({"test_result": "FAIL", "failures": ["leaks"], "owner": "backend"})
    await deliver(house, {BILLY: [flags], "Security Testing": [red, Script()]})

    assert counts(house, BILLY, LIZ, "Performance Testing", "Security Testing") == [2, 1, 2, 2]


async def test_crashed_run_is_replaced_by_its_fix(house: House, sdlc_reader: SdlcReader) -> None:
    told = Script({"summary": "measured at last", "overall": "PASS"})
    await deliver(house, {"Statistics": [LATE], "Fix run Statistics": [told]})

    assert counts(house, "Statistics", "Fix run Statistics", "DevOps Deployment") == [1, 1, 1]
    assert "measured at last" in house.runs.order("DevOps Deployment").prompt
    view = await sdlc_reader.requirement(house.number)
    assert {s.state for s in view.stages} == {StageState.COMPLETED, StageState.SKIPPED}


async def test_flags_that_a_fix_raises_count(house: House) -> None:
    flag = Script({"test_result": "PASS", "needs_vic": True})
    await deliver(house, {LIZ: [CRASH], f"Fix run {LIZ}": [flag]})

    assert counts(house, "Security Testing", "Performance Testing") == [1, 0]


async def test_red_verdict_of_a_fix_is_an_answer_and_goes_to_the_owner(house: House) -> None:
    scripts = {LIZ: [CRASH, Script()], f"Fix run {LIZ}": [fail("page is blank")]}
    await deliver(house, scripts)

    assert house.runs.order(f"Fix verdict {LIZ}").agent == "jen"
    assert counts(house, LIZ, f"Fix run {LIZ}") == [2, 1]


async def test_notes_of_people_reach_fixes(house: House) -> None:
    scripts = {ROY: [Script({"status": "BLOCKED", "summary": "which database?"}), Script()]}
    await house.open(scripts, {"backend": [2, 0]})
    handle = await house.start(bounds=REPAIR)
    await house.until_blocked(handle)
    answer = RetryRequest(ROY, "ada", "use postgres")
    await handle.execute_update(RequirementWorkflow.retry, answer)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await handle.result()

    assert "use postgres" in house.runs.order(FIX_BACKEND).prompt


@pytest.mark.parametrize("pipeline", ["critical-path", "final-stages"])
async def test_every_shipped_pipeline_is_repaired(house: House, pipeline: str) -> None:
    await deliver(house, {LIZ: [fail("a"), Script()]}, {"backend": [2, 0]}, pipeline=pipeline)

    assert counts(house, FIX_BACKEND, f"Fix verdict {LIZ}") == [1, 1]


async def test_one_after_another_where_parallel_execution_is_off(
    house: House, sdlc_reader: SdlcReader
) -> None:
    builds = {"backend": [2, 0], "frontend": [1, 0]}
    await deliver(house, {}, builds, pipeline="critical-path", sequential=True)

    (start, end), (other_start, other_end) = [await interval(sdlc_reader, house, n) for n in (1, 2)]
    assert end <= other_start or other_end <= start
