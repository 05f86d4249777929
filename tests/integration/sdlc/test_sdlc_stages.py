import asyncio
from datetime import timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import IllegalTransition, StaleAttempt
from pipeline.model import FailureKind, RunEnd, StageState
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    QA,
    RESEARCH,
    SECURITY,
    START,
    Requirement,
    a_failure,
)


async def _payloads(reader: SdlcReader, *types: str) -> list[dict[str, object]]:
    return [
        {k: v for k, v in event.payload.items() if k not in ("timestamp", "eventId")}
        for event in await reader.events("REQ-1")
        if event.type in types
    ]


async def test_start_and_end_of_a_stage_are_told(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH, minutes=45)

    common = {"reqNumber": "REQ-1", "stage": RESEARCH, "agent": "cynthia", "attempt": 1}
    assert await _payloads(sdlc_reader, "stage.started", "stage.completed") == [
        {"eventType": "stage.started", **common, "group": "Research", "timeout": 3_600_000},
        {
            "eventType": "stage.completed",
            **common,
            "starts": 1,
            "resumes": 0,
            "summary": "Done.",
            "commit": "Research-1",
        },
    ]
    events = [event.type for event in await sdlc_reader.events("REQ-1")]
    assert events == [
        "workflow.started",
        "stage.started",
        "deliverable",
        "stage.completed",
        "group.completed",
    ]


async def test_closed_run_has_times_cost_and_commits(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH, minutes=45)

    [run] = await sdlc_reader.runs("REQ-1")
    view = await sdlc_reader.requirement("REQ-1")

    assert run.run_id == "REQ-1/wf-1/Research/1"
    assert (run.state, run.end, run.starts) == (StageState.COMPLETED, RunEnd.EXITED, 1)
    assert (run.started_at, run.ended_at) == (START, START + timedelta(minutes=45))
    assert (run.seconds, run.commit, run.host) == (2700.0, "own", "host-1")
    assert view.head_commit == "Research-1"
    assert (view.stages[0].starts, view.stages[0].started_at) == (1, START)


async def test_deliverable_goes_out_on_its_agents_subject(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    await requirement.close_stage(RESEARCH, notice={"deliverable": "text"})

    [event] = [e for e in await sdlc_reader.events("REQ-1") if e.type == "deliverable"]

    assert event.subject == "agog.deliverables.cynthia.research.REQ-1"
    assert event.payload["deliverable"] == "text"


async def test_agent_is_told_exactly_what_it_stands_on(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    assert (await requirement.open_stage(RESEARCH)).deliverables == ()
    await requirement.close_stage(RESEARCH)
    await requirement.run(CRITIQUE)
    await requirement.run(FRONTEND)

    backend = await requirement.open_stage(BACKEND)

    assert (backend.title, backend.description) == ("A title", "A description")
    assert [each.stage for each in backend.deliverables] == [RESEARCH, CRITIQUE]
    assert '"agent": "cynthia"' in backend.deliverables[0].notice
    assert (backend.notes, backend.failures, backend.required_fixes) == ((), (), ())


async def test_skipped_stages_leave_no_deliverable(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)
    await requirement.skip(CRITIQUE)

    context = await requirement.open_stage(BACKEND)

    assert [each.stage for each in context.deliverables] == [RESEARCH]


async def test_conditions_of_the_critique_reach_those_who_build_and_test(
    sdlc_store: PostgresSdlcStore,
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)
    await requirement.open_stage(CRITIQUE)
    await requirement.close_stage(CRITIQUE, notice={"required_fixes": ("Index it", "Test it")})

    for name in (BACKEND, FRONTEND):
        assert (await requirement.open_stage(name)).required_fixes == ("Index it", "Test it")
        await requirement.close_stage(name)
    assert (await requirement.open_stage(QA)).required_fixes == ("Index it", "Test it")
    await requirement.close_stage(QA)
    assert (await requirement.open_stage(SECURITY)).required_fixes == ()


async def test_group_is_complete_with_its_last_stage(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    await requirement.run(BACKEND, start=60, minutes=60)
    assert len(await _payloads(sdlc_reader, "group.completed")) == 2
    await requirement.run(FRONTEND, start=75, minutes=60)

    *_, completed = await _payloads(sdlc_reader, "group.completed")

    assert completed == {
        "eventType": "group.completed",
        "reqNumber": "REQ-1",
        "group": "Implementation",
        "duration": 75 * 60_000,  # from 60 to 135
        "stagesCompleted": 2,
    }


async def test_group_counts_from_its_first_start_over_all_attempts(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.fail(RESEARCH)  # 0 to 30
    await requirement.run(RESEARCH, 2, start=40, minutes=20)

    [completed] = await _payloads(sdlc_reader, "group.completed")

    assert completed["duration"] == 60 * 60_000


async def test_group_whose_stages_were_all_skipped_counts_none(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.skip(SECURITY)

    assert await _payloads(sdlc_reader, "stage.skipped", "group.completed") == [
        {
            "eventType": "stage.skipped",
            "reqNumber": "REQ-1",
            "stage": SECURITY,
            "agent": "vic",
            "reason": "No flag.",
        },
        {
            "eventType": "group.completed",
            "reqNumber": "REQ-1",
            "group": "Conditional Testing",
            "duration": 0,
            "stagesCompleted": 0,
        },
    ]


@pytest.mark.parametrize("round_", range(5))
async def test_of_two_closings_at_once_one_completes_the_group(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, round_: int
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    await asyncio.gather(requirement.open_stage(BACKEND), requirement.open_stage(FRONTEND))
    await asyncio.gather(requirement.close_stage(BACKEND), requirement.close_stage(FRONTEND))

    completed = await _payloads(sdlc_reader, "group.completed")

    assert [(each["group"], each["stagesCompleted"]) for each in completed] == [
        ("Research", 1),
        ("Critique", 1),
        ("Implementation", 2),
    ]


async def test_failed_stage_tells_its_error(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.fail(RESEARCH)

    [failed] = await _payloads(sdlc_reader, "stage.failed")
    view = await sdlc_reader.requirement("REQ-1")

    assert (failed["error"], failed["action"]) == ("It broke.\nBadly.", "BLOCKED")
    assert (view.stages[0].state, view.stages[0].reason) == ("failed", "It broke.\nBadly.")
    assert await _payloads(sdlc_reader, "deliverable", "group.completed") == []


async def test_timeout_is_an_event_of_its_own(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    await requirement.close_stage(
        RESEARCH, state=StageState.FAILED, failure=a_failure(RESEARCH), end=RunEnd.TIMED_OUT
    )

    [timeout] = await _payloads(sdlc_reader, "stage.timeout")

    assert timeout == {
        "eventType": "stage.timeout",
        "reqNumber": "REQ-1",
        "stage": RESEARCH,
        "agent": "cynthia",
        "elapsedMs": 30 * 60_000,
        "severity": "CRITICAL",
    }


async def test_blocked_agent_tells_its_reason(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    failure = a_failure(RESEARCH, f"run {RESEARCH}", kind=FailureKind.BLOCKED, error="No access")
    await requirement.close_stage(
        RESEARCH, state=StageState.BLOCKED, failure=failure, notice={"status": "BLOCKED"}
    )

    [blocked] = await _payloads(sdlc_reader, "stage.blocked")

    assert (blocked["reason"], blocked["blockers"]) == ("No access", [])
    assert len(await _payloads(sdlc_reader, "deliverable")) == 1


async def test_verdict_and_merge_are_gates_on_their_commits(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)

    gates = (await sdlc_reader.requirement("REQ-1")).gates

    assert {(gate.gate, gate.commit, gate.verdict) for gate in gates} == {
        ("merge Research", "Research-1", "green"),
        ("critique Critique", "base", "green"),
        ("merge Critique", "Critique-1", "green"),
    }


async def test_red_verdict_is_a_red_gate_and_nothing_else(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(QA)
    failure = a_failure(QA, f"verdict {QA}", kind=FailureKind.VERDICT)
    await requirement.close_stage(
        QA, state=StageState.FAILED, failure=failure, notice={"test_result": "FAIL"}
    )

    gates = (await sdlc_reader.requirement("REQ-1")).gates

    assert [(gate.gate, gate.commit, gate.verdict) for gate in gates] == [
        (f"verdict {QA}", "base", "red")
    ]


async def test_run_without_a_notice_leaves_no_green_verdict(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.fail(QA)
    await requirement.open_stage(CRITIQUE)
    failed = a_failure(CRITIQUE, f"run {CRITIQUE}", kind=FailureKind.FAILED)
    await requirement.close_stage(
        CRITIQUE, state=StageState.FAILED, failure=failed, notice={"critique_verdict": "APPROVED"}
    )

    assert (await sdlc_reader.requirement("REQ-1")).gates == ()


async def test_conflict_is_a_red_merge_beside_a_green_verdict(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(QA)
    failure = a_failure(QA, f"merge {QA}", kind=FailureKind.CONFLICT)
    await requirement.close_stage(
        QA, state=StageState.FAILED, failure=failure, notice={}, conflicts=("a.py",)
    )

    gates = (await sdlc_reader.requirement("REQ-1")).gates

    assert {(gate.gate, gate.commit, gate.verdict) for gate in gates} == {
        (f"verdict {QA}", "base", "green"),
        (f"merge {QA}", "own", "red"),
    }


async def test_late_closing_of_an_older_attempt_is_refused(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH, 1)
    await requirement.open_stage(RESEARCH, 2)  # attempt 1 was lost with its host

    with pytest.raises(StaleAttempt, match="attempt 2, not 1"):
        await requirement.close_stage(RESEARCH, 1)

    runs = await sdlc_reader.runs("REQ-1")
    assert [(run.attempt, run.state, run.error) for run in runs] == [
        (1, "failed", "Lost; attempt 2 takes its place."),
        (2, "running", ""),
    ]


async def test_lost_attempt_cannot_open_again(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH, 2)

    with pytest.raises(StaleAttempt, match="attempt 2, not 1"):
        await requirement.open_stage(RESEARCH, 1)
    with pytest.raises(StaleAttempt, match="attempt 2, not 1"):
        await requirement.skip(RESEARCH, 1)


async def test_closing_what_was_never_opened_is_refused(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()

    with pytest.raises(StaleAttempt, match="is not open"):
        await requirement.close_stage(RESEARCH)


async def test_completed_stage_cannot_start_again_without_an_answer(
    sdlc_store: PostgresSdlcStore,
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)

    with pytest.raises(IllegalTransition, match="from completed to running"):
        await requirement.open_stage(RESEARCH, 2)
    with pytest.raises(IllegalTransition, match="from completed to skipped"):
        await requirement.skip(RESEARCH, 2)


async def test_next_attempt_is_told_how_the_last_one_ended(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.fail(RESEARCH)

    context = await requirement.open_stage(RESEARCH, 2)

    assert context.failures == ("Attempt 1: It broke.\nBadly.",)


async def test_text_that_postgres_cannot_hold_is_stored_all_the_same(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.fail(RESEARCH, failure=a_failure(RESEARCH, error="nul \0, half \ud83d, 😀"))

    [failed] = await _payloads(sdlc_reader, "stage.failed")

    assert failed["error"] == "nul \ufffd, half \ufffd, 😀"
    assert (await sdlc_reader.runs("REQ-1"))[0].error == failed["error"]
