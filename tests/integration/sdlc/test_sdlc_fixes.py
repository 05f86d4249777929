"""Rows of fixes on a real database: links, merges, and what resolves a blocker."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import (
    Ending,
    Failure,
    FailureKind,
    Fix,
    FixMerge,
    FixMerged,
    FixOpening,
    Group,
    Head,
    Hold,
    MergeResult,
    Pipeline,
    Priority,
    ProgramReport,
    RequirementState,
    RoundResults,
    RunEnd,
    RunResult,
    StageOutcome,
    StageState,
)
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    PLAN,
    QA,
    RESEARCH,
    START,
    Requirement,
    a_failure,
    an_order,
    begin,
)

BUILD = a_failure(BACKEND, "build backend", kind=FailureKind.BUILD)
OTHER = a_failure(FRONTEND, "build frontend", kind=FailureKind.BUILD, owners=("jen",))
KEY = (BACKEND, "build backend")


def a_fix(nth: int = 1, failure: Failure = BUILD) -> Fix:
    (owner,) = failure.owners
    task = replace(PLAN.stage(failure.stage), name=f"Fix {failure.gate}", needs=())
    return Fix(f"REQ-1-FIX-{nth}", "REQ-1", 1, owner, failure.stage, failure, task)


def opening(requirement: Requirement, *fixes: Fix) -> FixOpening:
    orders = (replace(an_order(fix.number), pipeline=one_stage(fix)) for fix in fixes)
    return FixOpening(requirement.ref, 1, fixes, tuple(orders))


def one_stage(fix: Fix) -> Pipeline:
    return Pipeline("fix", (Group(fix.task.group),), (fix.task,))


def settled(requirement: Requirement, **changes: object) -> RoundResults:
    nothing = RoundResults(requirement.ref, 1, 1, (), (), (), "")
    return replace(nothing, **changes)  # type: ignore[arg-type] # the fields of the caller


@pytest.fixture
async def blocked(sdlc_store: PostgresSdlcStore) -> Requirement:
    """Both builds are red; nobody is asked."""
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE, BACKEND, FRONTEND)
    await requirement.block(BUILD, OTHER, blocked=(QA,), asked=False)
    return requirement


async def open_blockers(url: str) -> list[str]:
    """What the requirement is still blocked by."""
    engine = create_async_engine(url)
    query = "SELECT blocked_by FROM blockers WHERE resolved_at IS NULL ORDER BY blocked_by"
    async with engine.connect() as connection:
        found = [row.blocked_by for row in await connection.execute(text(query))]
    await engine.dispose()
    return found


async def test_fix_has_its_row_before_its_workflow(
    blocked: Requirement, sdlc_reader: SdlcReader, database_url: str
) -> None:
    await blocked.store.open_fixes(opening(blocked, a_fix(1), a_fix(2, OTHER)))

    fix, parent = [await sdlc_reader.requirement(n) for n in ("REQ-1-FIX-1", "REQ-1")]
    assert (fix.state, fix.parent, fix.assignee) == (RequirementState.ACCEPTED, "REQ-1", "roy")
    assert parent.waiting_for == "REQ-1-FIX-1, REQ-1-FIX-2"
    assert await open_blockers(database_url) == ["REQ-1-FIX-1", "REQ-1-FIX-2"]


async def test_opening_again_changes_nothing(blocked: Requirement, sdlc_reader: SdlcReader) -> None:
    """The activity is repeated after its worker was lost, perhaps when the fix is on its way."""
    await blocked.store.open_fixes(opening(blocked, a_fix()))
    await Requirement(blocked.store, "REQ-1-FIX-1").open()
    before = await sdlc_reader.requirement("REQ-1-FIX-1")

    await blocked.store.open_fixes(opening(blocked, a_fix()))

    assert await sdlc_reader.requirement("REQ-1-FIX-1") == before


async def test_fix_of_a_fix_takes_its_place(blocked: Requirement, sdlc_reader: SdlcReader) -> None:
    first = a_fix()
    second = replace(first, number="REQ-1-FIX-1-FIX-1", parent=first.number, depth=2)
    await blocked.store.open_fixes(opening(blocked, first, a_fix(2, OTHER)))
    await blocked.store.open_fixes(opening(blocked, second))

    view = await sdlc_reader.requirement("REQ-1")
    assert view.waiting_for == "REQ-1-FIX-1-FIX-1, REQ-1-FIX-2"
    assert [(fix.number, fix.depth) for fix in view.fixes] == [
        ("REQ-1-FIX-1", 1),
        ("REQ-1-FIX-2", 1),
        ("REQ-1-FIX-1-FIX-1", 2),
    ]


async def test_only_a_green_gate_resolves_its_blocker_and_failure(
    blocked: Requirement, sdlc_reader: SdlcReader, database_url: str
) -> None:
    await blocked.store.open_fixes(opening(blocked, a_fix(1), a_fix(2, OTHER)))
    await blocked.store.apply_results(settled(blocked, green=(KEY,), waiting_for="orchestrator"))

    view = await sdlc_reader.requirement("REQ-1")
    assert view.state is RequirementState.BLOCKED
    assert [failure.gate for failure in view.failures] == ["build frontend"]
    assert await open_blockers(database_url) == ["REQ-1-FIX-2"]


async def test_requirement_continues_once_and_with_what_waits_again(
    blocked: Requirement, sdlc_reader: SdlcReader
) -> None:
    await blocked.store.open_fixes(opening(blocked, a_fix()))
    green = settled(
        blocked,
        green=(KEY, (FRONTEND, "build frontend")),
        reopened=((QA, "What it needs is repaired."),),
    )
    await blocked.store.apply_results(green)
    await blocked.store.apply_results(green)

    view = await sdlc_reader.requirement("REQ-1")
    states = {stage.stage: stage.state for stage in view.stages}
    assert (view.state, view.waiting_for) == (RequirementState.RUNNING, "")
    assert (states[QA], states[BACKEND]) == (StageState.WAITING, StageState.COMPLETED)
    types = [event.type for event in await sdlc_reader.events("REQ-1")]
    assert types.count("workflow.resumed") == 1


async def test_conflict_of_a_fix_is_a_red_gate_and_a_failure_with_an_owner(
    blocked: Requirement, sdlc_reader: SdlcReader
) -> None:
    await blocked.store.open_fixes(opening(blocked, a_fix()))
    merge = FixMerge(blocked.ref, 1, a_fix(), "c0ffee")
    conflict = Failure(BACKEND, FailureKind.CONFLICT, "merge REQ-1-FIX-1", ("roy",), "a.py")
    for _ in range(2):
        await blocked.store.merge_fix(merge, FixMerged(None, True, conflict))

    view = await sdlc_reader.requirement("REQ-1")
    red = [(gate.gate, gate.verdict) for gate in view.gates if gate.gate.endswith("FIX-1")]
    assert red == [("merge REQ-1-FIX-1", "red")]
    conflicts = [f for f in view.failures if f.gate == "merge REQ-1-FIX-1"]
    assert [(f.kind, f.owners) for f in conflicts] == [("conflict", ("roy",))]


async def test_merged_fix_moves_the_head(blocked: Requirement, sdlc_reader: SdlcReader) -> None:
    await blocked.store.open_fixes(opening(blocked, a_fix()))
    merge = FixMerge(blocked.ref, 1, a_fix(), "c0ffee")
    await blocked.store.merge_fix(merge, FixMerged(Head("merged", 7), True))

    assert (await sdlc_reader.requirement("REQ-1")).head_commit == "merged"


async def test_fix_is_told_which_run_of_its_agent_it_repairs(
    sdlc_store: PostgresSdlcStore,
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    await requirement.open_stage(BACKEND)
    report = ProgramReport("codex", "codex", Ending.SUCCESS, session="s-1")
    result = RunResult(RunEnd.EXITED, 0, "", "", START, START, 1, "log", report=report)
    done = StageOutcome(BACKEND, 1, StageState.COMPLETED, Head("b", 1), True)
    request, notice = requirement.request(BACKEND), requirement.notice(BACKEND)
    merge = MergeResult(Head("b", 1), "own")
    await sdlc_store.close_stage(request, done, result, notice, merge, None)
    await requirement.run(FRONTEND)  # whose program has told no session
    await requirement.block(BUILD, OTHER, blocked=(QA,), asked=False)
    fixes = (
        replace(a_fix(1), task=PLAN.stage(BACKEND)),
        replace(a_fix(2, OTHER), task=PLAN.stage(FRONTEND)),
    )
    await sdlc_store.open_fixes(opening(requirement, *fixes))

    told = []
    for fix in fixes:
        repair = Requirement(sdlc_store, fix.number)
        await repair.open()
        told.append((await repair.open_stage(fix.task.name)).continues)
    assert told == [request.run_id, ""]


async def test_stage_that_a_fix_stands_for_hands_on_the_fixs_notice(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    crash = await requirement.fail(RESEARCH)
    await requirement.block(crash, asked=False)
    fix = replace(a_fix(failure=crash), task=PLAN.stage(RESEARCH))
    await sdlc_store.open_fixes(opening(requirement, fix))
    repair = Requirement(sdlc_store, fix.number)
    await repair.open()
    await repair.run(RESEARCH)

    outcome = StageOutcome(RESEARCH, 1, StageState.COMPLETED, None, True, "Researched at last.")
    key = (RESEARCH, crash.gate)
    await sdlc_store.apply_results(
        settled(requirement, green=(key,), replaced=((fix.number, outcome),))
    )

    context = await requirement.open_stage(CRITIQUE)
    assert [told.stage for told in context.deliverables] == [RESEARCH]
    completed = [
        event.payload
        for event in await sdlc_reader.events("REQ-1")
        if event.type == "stage.completed"
    ]
    assert completed[0]["repairedBy"] == fix.number


async def test_holds_of_fixes_are_holds_of_what_they_repair(
    blocked: Requirement, sdlc_reader: SdlcReader
) -> None:
    fix = a_fix()
    await blocked.store.open_fixes(opening(blocked, fix))
    repair = Requirement(blocked.store, fix.number)
    await repair.open()
    urgent = await begin(blocked.store, "REQ-0", Priority.P0)
    request = replace(repair.request(BACKEND), stage=fix.task)

    assert isinstance(await blocked.store.open_stage(request, fix.number), Hold)
    await urgent.close()

    [hold] = (await sdlc_reader.requirement(fix.number)).holds
    measured = await sdlc_reader.performance("REQ-1")
    assert measured.hold_seconds > 0
    assert (await sdlc_reader.requirement("REQ-1")).holds == ()
    assert hold.held_by == ("REQ-0",)
