"""Failures find their owners, are repaired, and the requirement goes on."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters.sdlc_reader import SdlcReader
from adapters.workspaces import GitWorkspaces
from pipeline.model import (
    Answer,
    DecisionRequest,
    DeliveryReport,
    Pipeline,
    RequirementState,
    RetryRequest,
    RunEnd,
    StageState,
)
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject
from tests.house import REPAIR, ExitCodes, House, Scripts, until
from tests.plans import a_plan, a_stage
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"
BILLY, LIZ = "Backend QA", "Frontend QA"
FIX_BACKEND, FIX_FRONTEND = "Fix build backend", "Fix build frontend"
CRASH = Script(exit_code=1, output="no notice here")
LATE = Script(end=RunEnd.TIMED_OUT)


def fail(*failures: str) -> Script:
    return Script({"test_result": "FAIL", "failures": list(failures)})


async def deliver(
    house: House,
    scripts: Scripts | None = None,
    builds: ExitCodes | None = None,
    pipeline: str = "standard",
    **changes: Any,
) -> DeliveryReport:
    await house.open(scripts, builds, workspaces=changes.pop("workspaces", None))
    handle = await house.start(pipeline, bounds=REPAIR, **changes)
    async with asyncio.timeout(60):
        report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report
    return report


async def until_asked(
    house: House, scripts: Scripts | None = None, builds: ExitCodes | None = None
) -> Mapping[str, Any]:
    """Run until a human is asked; the question."""
    await house.open(scripts, builds)
    handle = await house.start(bounds=REPAIR)
    await house.until_blocked(handle)
    return (await house.events())[-1]


async def interval(reader: SdlcReader, house: House, nth: int) -> tuple[datetime, datetime]:
    """When the nth fix's agent worked."""
    (run,) = await reader.runs(f"{house.number}-FIX-{nth}")
    assert run.started_at
    assert run.ended_at
    return run.started_at, run.ended_at


def counts(house: House, *stages: str) -> Sequence[int]:
    return [house.runs.started().count(stage) for stage in stages]


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


async def test_fix_that_fails_gets_a_fix_of_its_own(house: House, sdlc_reader: SdlcReader) -> None:
    await deliver(house, {FIX_BACKEND: [CRASH, CRASH, Script()]}, {"backend": [2, 0]})

    first = await sdlc_reader.requirement(f"{house.number}-FIX-1")
    second = await sdlc_reader.requirement(f"{house.number}-FIX-1-FIX-1")
    assert (first.state, second.state) == (RequirementState.FAILED, RequirementState.DELIVERED)
    assert second.parent == first.number
    assert [f.kind for f in await sdlc_reader.failures(first.number)] == ["crash"]


async def test_fix_of_a_fix_is_told_what_is_to_be_repaired_and_what_came_of_it(
    house: House,
) -> None:
    await deliver(house, {FIX_BACKEND: [CRASH, CRASH, Script()]}, {"backend": [2, 0]})

    prompt = house.runs.order(FIX_BACKEND).prompt
    assert "build backend is red" in prompt
    assert "error TS2345" in prompt
    assert f"{house.number}-FIX-1 did not repair it" in prompt


async def test_deployment_that_fails_is_a_humans_to_repeat_through_its_gates(
    house: House,
) -> None:
    asked = await until_asked(house, {"DevOps Deployment": [CRASH]})

    assert asked["answers"] == ["retry 'DevOps Deployment'", "decide abort"]
    assert counts(house, "DevOps Deployment", "Fix run DevOps Deployment") == [1, 0]


async def test_orchestrator_ended_from_outside_leaves_no_merged_fix_unjudged(
    house: House, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    """roy's fix is merged; jen's still runs when somebody terminates the orchestrator alone."""
    scripts = {
        BILLY: [Script(), Script()],
        LIZ: [Script(), Script()],
        "Statistics": [
            Script({"overall": "FAIL", "failures": ["slow"]}),
            Script(),
        ],
        "Fix verdict Statistics": [
            Script(minutes=1, files={"fixed.txt": "roy\n"}),
            Script(minutes=600_000),
        ],
    }
    await house.open(scripts, workspaces=workspaces)
    handle = await house.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))

    async def is_merged() -> bool:
        return bool(git_project.git("for-each-ref", f"refs/agog/{house.number}/merged/*FIX*"))

    await until(is_merged, "the first fix is merged")
    await house.handle(f"{house.number}/round-1").terminate()
    await house.until_blocked(handle)
    answer = RetryRequest("Statistics", "ada")
    await handle.execute_update(RequirementWorkflow.retry, answer)
    async with asyncio.timeout(60):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert git_project.text("main", "fixed.txt") == "roy"
    assert counts(house, BILLY, LIZ) == [2, 2]


async def test_fix_that_waits_for_its_turn_is_cancelled_with_its_requirement(
    house: House, sdlc_reader: SdlcReader
) -> None:
    red = Script({"overall": "FAIL", "failures": ["slow"]})
    slow = Script(minutes=600_000)
    await house.open({"Statistics": [red], "Fix verdict Statistics": [slow]})
    beat = timedelta(seconds=1)
    handle = await house.start(bounds=REPAIR, sequential=True, heartbeat=beat)

    async def is_at_work() -> bool:
        return counts(house, "Fix verdict Statistics") == [1]

    await until(is_at_work, "the first fix runs")
    abort = DecisionRequest(Answer.ABORT, "ada")
    await handle.execute_update(RequirementWorkflow.decide, abort)
    await handle.result()

    fixes = (await sdlc_reader.requirement(house.number)).fixes
    assert [fix.state for fix in fixes] == [RequirementState.CANCELLED] * 2


def two_sides() -> Pipeline:
    """One stage stands on roy's side alone, another one on both."""
    roy = replace(a_stage("Roy", "roy", minutes=1), builds=("backend",))
    jen = replace(a_stage("Jen", "jen", minutes=400), builds=("frontend",))
    return a_plan(roy, jen, a_stage("One", needs=["Roy"]), a_stage("Both", needs=["Roy", "Jen"]))


async def test_build_that_later_work_turns_green_lets_everybody_go_on(house: House) -> None:
    await house.open(builds={"backend": [2, 0]})
    handle = await house.start(two_sides(), bounds=REPAIR)
    async with asyncio.timeout(60):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert counts(house, "One", "Both", FIX_BACKEND) == [1, 1, 0]


async def test_build_that_is_red_on_two_commits_of_a_round_is_red_once(house: House) -> None:
    await house.open(builds={"backend": [2, 2, 0]})
    handle = await house.start(two_sides(), bounds=REPAIR)
    async with asyncio.timeout(60):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert counts(house, FIX_BACKEND) == [1]


async def test_notes_of_people_reach_fixes(house: House) -> None:
    scripts = {ROY: [Script({"status": "BLOCKED", "summary": "which database?"}), Script()]}
    await house.open(scripts, {"backend": [2, 0]})
    handle = await house.start(bounds=REPAIR)
    await house.until_blocked(handle)
    answer = RetryRequest(ROY, "ada", "use postgres")
    await handle.execute_update(RequirementWorkflow.retry, answer)
    async with asyncio.timeout(60):
        await handle.result()

    assert "use postgres" in house.runs.order(FIX_BACKEND).prompt


async def test_depth_three_asks_a_human(house: House, sdlc_reader: SdlcReader) -> None:
    asked = await until_asked(house, {FIX_BACKEND: [LATE]}, {"backend": [2]})

    assert "2 deep" in asked["asks"][0]["reason"]
    assert asked["answers"] == [f"retry '{ROY}'", "decide abort"]
    numbers = [summary.number for summary in await sdlc_reader.requirements()]
    assert sorted(n for n in numbers if n.startswith(f"{house.number}-")) == [
        f"{house.number}-FIX-1",
        f"{house.number}-FIX-1-FIX-1",
    ]


async def test_third_red_asks_a_human(house: House) -> None:
    words = [fail("one"), fail("two"), fail("three")]
    asked = await until_asked(house, {BILLY: words})

    assert "third time" in asked["asks"][0]["reason"]
    assert counts(house, f"Fix verdict {BILLY}", BILLY) == [2, 3]


async def test_same_words_twice_ask_a_human_at_once(house: House) -> None:
    asked = await until_asked(house, {BILLY: [fail("one")]})

    assert "same words" in asked["asks"][0]["reason"]
    assert counts(house, f"Fix verdict {BILLY}", BILLY) == [1, 2]


async def test_lost_infrastructure_opens_no_fix(house: House) -> None:
    asked = await until_asked(house, {"Research": [Script(end=RunEnd.LOST)]})

    assert "infrastructure" in asked["asks"][0]["reason"]
    assert counts(house, "Research", "Fix run Research") == [3, 0]


async def test_blocked_agent_asks_while_what_else_failed_is_repaired(house: House) -> None:
    scripts = {ROY: [Script({"status": "BLOCKED", "summary": "which database?"})], JEN: [CRASH]}
    asked = await until_asked(house, scripts)

    async def is_repaired() -> bool:
        return counts(house, f"Fix run {JEN}") == [1]

    await until(is_repaired, "jen's crash is repaired")
    assert [ask["gate"] for ask in asked["asks"]] == [f"run {ROY}"]


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


# --- a real project -------------------------------------------------------------------------


async def test_commit_of_a_fix_is_delivered_with_everything_else(
    house: House, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    scripts = {
        ROY: [Script(files={"backend.txt": "broken\n"})],
        JEN: [Script(files={"frontend.txt": "fine\n"})],
        FIX_BACKEND: [Script(files={"backend.txt": "repaired\n"})],
    }
    report = await deliver(house, scripts, {"backend": [2, 0]}, workspaces=workspaces)

    assert git_project.text("main", "backend.txt") == "repaired"
    assert git_project.text("main", "frontend.txt") == "fine"
    assert report.commit == git_project.git("rev-parse", "main")
    assert git_project.git("worktree", "list").count("\n") == 0


async def test_merge_conflict_is_resolved_by_the_later_owner(
    house: House, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    scripts = {
        ROY: [Script(minutes=1, files={"shared.txt": "roy\n"})],
        JEN: [Script(minutes=400, files={"shared.txt": "jen\n"})],
        f"Fix merge {JEN}": [Script(files={"shared.txt": "roy and jen\n"})],
    }
    await deliver(house, scripts, workspaces=workspaces)

    assert git_project.text("main", "shared.txt") == "roy and jen"
    assert counts(house, ROY, JEN) == [1, 1]
    assert house.runs.order(f"Fix merge {JEN}").agent == "jen"


async def test_fixes_that_conflict_with_each_other_are_resolved_by_a_fix_of_the_later_one(
    house: House, workspaces: GitWorkspaces, git_project: GitProject, sdlc_reader: SdlcReader
) -> None:
    scripts = {
        FIX_BACKEND: [Script(minutes=1, files={"shared.txt": "roy\n"})],
        FIX_FRONTEND: [
            Script(minutes=600, files={"shared.txt": "jen\n"}),
            Script(files={"shared.txt": "both\n"}),
        ],
    }
    builds = {"backend": [2, 0], "frontend": [1, 0]}
    await deliver(house, scripts, builds, workspaces=workspaces)

    assert git_project.text("main", "shared.txt") == "both"
    nested = await sdlc_reader.requirement(f"{house.number}-FIX-2-FIX-1")
    assert nested.parent == f"{house.number}-FIX-2"


async def test_target_that_moved_and_conflicts_is_merged_by_an_owner(
    house: House, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    scripts = {
        ROY: [Script(files={"shared.txt": "ours\n"})],
        "Documentation Update": [Script(minutes=1000)],
    }
    await house.open(scripts, workspaces=workspaces)
    house.runs.on_start["Documentation Update"] = lambda _: git_project.commit(
        {"shared.txt": "theirs\n"}
    )

    house.runs.on_start["Fix deliver"] = lambda worktree: git_project.git(
        "merge", "--quiet", "-s", "ours", "main", at=worktree
    )
    handle = await house.start(bounds=REPAIR)
    async with asyncio.timeout(60):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert git_project.text("main", "shared.txt") == "ours"
    assert house.runs.order("Fix deliver").agent == "roy"
