from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import FailureKind, StageState
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    QA,
    RESEARCH,
    SECURITY,
    Requirement,
    a_failure,
)


async def _states(reader: SdlcReader) -> dict[str, str]:
    return {s.stage: str(s.state) for s in (await reader.requirement("REQ-1")).stages}


async def _events(reader: SdlcReader, kind: str) -> list[dict[str, object]]:
    return [dict(e.payload) for e in await reader.events("REQ-1") if e.type == kind]


async def _implementation_failed(store: PostgresSdlcStore) -> Requirement:
    """roy and jen failed, and what needs them could not start."""
    requirement = await Requirement(store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    failures = [await requirement.fail(name) for name in (BACKEND, FRONTEND)]
    await requirement.block(*failures, blocked=(QA, SECURITY))
    return requirement


async def test_blocked_requirement_names_all_failures(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await _implementation_failed(sdlc_store)

    view = await sdlc_reader.requirement("REQ-1")
    [event] = await _events(sdlc_reader, "workflow.blocked")

    assert (view.state, view.round, view.waiting_for) == ("BLOCKED", 1, "human")
    assert view.reason == "1 failure"
    assert [(f.stage, f.owners) for f in view.failures] == [
        (BACKEND, ("roy",)),
        (FRONTEND, ("jen",)),
    ]
    assert (event["round"], event["severity"]) == (1, "CRITICAL")
    assert event["failures"] == [
        {
            "stage": name,
            "gate": f"run {name}",
            "kind": "crash",
            "owners": [owner],
            "error": "It broke.",
            "log": "log-1",
        }
        for name, owner in ((BACKEND, "roy"), (FRONTEND, "jen"))
    ]


async def test_stage_that_could_not_start_names_its_blockers(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await _implementation_failed(sdlc_store)

    states = await _states(sdlc_reader)
    qa, security = await _events(sdlc_reader, "stage.blocked")

    assert (states[QA], states[SECURITY]) == ("blocked", "blocked")
    assert (qa["stage"], qa["blockers"]) == (QA, [BACKEND, FRONTEND])
    assert (security["stage"], security["blockers"]) == (SECURITY, [QA])


async def test_stage_that_stays_blocked_is_not_told_twice(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await _implementation_failed(sdlc_store)
    await requirement.reopen(BACKEND, QA, SECURITY)
    failure = await requirement.fail(BACKEND, 2)
    still_open = a_failure(FRONTEND, f"run {FRONTEND}", owners=("jen",))
    await requirement.block(failure, still_open, round_=2, blocked=(QA, SECURITY))

    blocked = await _events(sdlc_reader, "stage.blocked")
    view = await sdlc_reader.requirement("REQ-1")

    assert len(blocked) == len({event["eventId"] for event in blocked}) == 4
    assert [(f.round, f.stage) for f in view.failures] == [(2, BACKEND), (2, FRONTEND)]
    assert len(await sdlc_reader.failures("REQ-1")) == 4


async def test_run_that_nobody_closed_is_recorded_as_failed(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    lost = a_failure(RESEARCH, f"run {RESEARCH}", error="The host is gone.")
    await requirement.block(lost)

    [run] = await sdlc_reader.runs("REQ-1")
    [failed] = await _events(sdlc_reader, "stage.failed")

    assert (run.state, run.error) == (StageState.FAILED, "The host is gone.")
    assert failed["error"] == "The host is gone."
    assert (await _states(sdlc_reader))[RESEARCH] == "failed"


async def test_stage_refused_before_its_start_is_blocked(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.block(a_failure(RESEARCH, kind=FailureKind.REFUSED))

    assert (await _states(sdlc_reader))[RESEARCH] == "blocked"
    await requirement.reopen(RESEARCH)
    assert (await _states(sdlc_reader))[RESEARCH] == "waiting"


async def test_red_build_blocks_without_touching_its_stage(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE, BACKEND, FRONTEND)
    await requirement.build(passed=False)
    red = a_failure(BACKEND, "build backend", kind=FailureKind.BUILD)
    await requirement.block(red, blocked=(QA, SECURITY))

    assert (await _states(sdlc_reader))[BACKEND] == "completed"
    [build] = await _events(sdlc_reader, "build.failed")
    assert (build["agent"], build["errors"]) == ("roy", ["It broke.", "Badly."])


async def test_retry_reopens_stages_and_resumes(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await _implementation_failed(sdlc_store)
    await requirement.reopen(BACKEND, QA, SECURITY, why="Use the new API.")

    view = await sdlc_reader.requirement("REQ-1")
    [resumed] = await _events(sdlc_reader, "workflow.resumed")

    assert (view.state, view.waiting_for, view.reason) == ("RUNNING", "", "")
    assert await _states(sdlc_reader) == {
        RESEARCH: "completed",
        CRITIQUE: "completed",
        BACKEND: "waiting",
        FRONTEND: "failed",
        QA: "waiting",
        SECURITY: "waiting",
    }
    assert [f.stage for f in view.failures] == [FRONTEND]
    assert (resumed["round"], resumed["who"], resumed["why"]) == (1, "ann", "Use the new API.")
    assert resumed["stages"] == [BACKEND, QA, SECURITY]


async def test_reopened_agent_is_told_what_failed_and_what_the_human_said(
    sdlc_store: PostgresSdlcStore,
) -> None:
    requirement = await _implementation_failed(sdlc_store)
    await requirement.reopen(BACKEND, QA, SECURITY, why="Use the new API.")

    context = await requirement.open_stage(BACKEND, 2)

    assert context.notes == ("ann: Use the new API.",)
    assert context.failures == (f"run {BACKEND}: It broke.\nBadly.",)


async def test_owner_is_told_what_a_tester_found(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE, BACKEND, FRONTEND)
    red = a_failure(QA, f"verdict {QA}", kind=FailureKind.VERDICT, error="500 on /login")
    await requirement.fail(QA, failure=red)
    await requirement.block(red)
    await requirement.reopen(BACKEND, QA, why="")

    assert (await requirement.open_stage(BACKEND, 2)).failures == (f"verdict {QA}: 500 on /login",)
    assert (await requirement.open_stage(BACKEND, 2)).notes == ()


async def test_retry_beside_running_siblings_resumes_nothing(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    await requirement.open_stage(FRONTEND)
    await requirement.fail(BACKEND)
    await requirement.reopen(BACKEND, QA, SECURITY)  # QA is blocked in the workflow alone

    assert await _events(sdlc_reader, "workflow.resumed") == []
    assert len(await sdlc_reader.notes("REQ-1")) == 1
    states = await _states(sdlc_reader)
    assert (states[BACKEND], states[FRONTEND], states[QA]) == ("waiting", "running", "waiting")


async def test_approved_critique_completes_and_hands_over(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)
    red = a_failure(CRITIQUE, f"critique {CRITIQUE}", kind=FailureKind.CRITIQUE)
    await requirement.open_stage(CRITIQUE)
    await requirement.close_stage(
        CRITIQUE, state=StageState.BLOCKED, failure=red, notice={"reasons": ("Too big",)}
    )
    await requirement.block(red, blocked=(BACKEND, FRONTEND))
    await requirement.reopen(BACKEND, FRONTEND, approved=(CRITIQUE,), why="Fine for now.")

    [completed] = [
        e for e in await _events(sdlc_reader, "stage.completed") if e["stage"] == CRITIQUE
    ]
    groups = [e["group"] for e in await _events(sdlc_reader, "group.completed")]
    context = await requirement.open_stage(BACKEND)

    assert completed["approvedBy"] == "ann"
    assert groups == ["Research", "Critique"]
    assert [each.stage for each in context.deliverables] == [RESEARCH, CRITIQUE]
    assert context.notes == ("ann: Fine for now.",)


async def test_phase_history_says_who_and_why(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await _implementation_failed(sdlc_store)
    await requirement.reopen(BACKEND, QA, SECURITY, why="Again.")

    phases = await sdlc_reader.phases("REQ-1")

    assert [(p.source, p.target, p.who) for p in phases if not p.stage] == [
        (None, "ACCEPTED", "user"),
        ("ACCEPTED", "RUNNING", "orchestrator"),
        ("RUNNING", "BLOCKED", "orchestrator"),
        ("BLOCKED", "RUNNING", "ann"),
    ]
    assert [(p.source, p.target, p.why) for p in phases if p.stage == BACKEND] == [
        ("waiting", "running", ""),
        ("running", "failed", "It broke.\nBadly."),
        ("failed", "waiting", "Again."),
    ]
