"""Reviews go back and forth by themselves; what nobody else can see to asks a human."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from adapters.sdlc.reader import SdlcReader
from pipeline.model import Answer, Bounds, DecisionRequest, RequirementState, RetryRequest
from tests.cluster import REPAIR, Cluster, Handle, ended, until
from tests.fakes import Script
from workflows.requirement import RequirementWorkflow

ROY, JEN, BILLY = "Backend Implementation", "Frontend Implementation", "Backend QA"
AGAIN = Script({"critique_verdict": "REQUEST_CHANGES", "reasons": ["name the unit"]})
ESCALATE = Script({"critique_verdict": "ESCALATE", "reasons": ["whose budget?"]})
ASKS = Script({"status": "BLOCKED", "summary": "which database?"})


def decide(answer: Answer, note: str = "") -> DecisionRequest:
    return DecisionRequest(answer, "ada", note)


async def started(cluster: Cluster, **scripts: list[Script]) -> Handle:
    await cluster.open({name.replace("_", " "): script for name, script in scripts.items()})
    return await cluster.start(bounds=REPAIR)


async def test_research_is_repeated_with_reasons_and_its_own_result(cluster: Cluster) -> None:
    handle = await started(
        cluster, Research=[Script({"summary": "first look"})], Critique=[AGAIN, AGAIN, Script()]
    )
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.runs.started()[:6] == ["Research", "Critique"] * 3
    prompt = cluster.runs.order("Research").prompt
    assert "name the unit" in prompt
    assert "first look" in prompt
    assert "workflow.escalated" not in await cluster.types()


async def test_third_request_for_changes_asks_a_human(cluster: Cluster) -> None:
    handle = await started(cluster, Critique=[AGAIN])
    await cluster.until_blocked(handle)

    assert cluster.runs.started() == ["Research", "Critique"] * 3
    asked = (await cluster.events())[-1]
    assert "after 2 reviews" in asked["asks"][0]["reason"]
    assert asked["answers"] == ["decide approve", "decide request-changes", "decide abort"]

    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE, "good enough"))
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED


async def test_conditions_reach_implementers_and_testers(cluster: Cluster) -> None:
    conditions = Script(
        {"critique_verdict": "APPROVED_WITH_CONDITIONS", "required_fixes": ["log the language"]}
    )
    handle = await started(cluster, Critique=[conditions])
    await handle.result()

    told = [o.agent for o in cluster.runs.orders if "log the language" in o.prompt]
    assert {"roy", "jen", "billy", "liz"} <= set(told)


async def test_question_is_a_row_an_event_and_stands_in_the_web_ui(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    handle = await started(cluster, Critique=[ESCALATE])
    await cluster.until_blocked(handle)

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.BLOCKED, "human")
    (asked,) = await cluster.escalations()
    assert asked["asks"][0]["gate"] == "critique Critique"

    async def is_shown() -> bool:
        current = await current_details(handle)
        return f"starter.py decide {cluster.number} approve" in current and "ESCALATE" in current

    await until(is_shown, "the question stands there")  # its event is out a moment before


async def current_details(handle: Handle) -> str:
    """What the Web UI shows under User Metadata."""
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata")
    return metadata.current_details


async def test_answer_is_recorded_with_who_when_and_note(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    handle = await started(cluster, Critique=[ESCALATE])
    await cluster.until_blocked(handle)
    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE, "ours"))
    await handle.result()

    (asked,) = await sdlc_reader.escalations(cluster.number)
    assert (asked.answer, asked.who, asked.note) == ("approve", "ada", "ours")
    assert asked.answered_at
    assert asked.answered_at > asked.created_at


async def test_same_answer_twice_has_one_effect(cluster: Cluster) -> None:
    handle = await started(cluster, Critique=[ESCALATE])
    await cluster.until_blocked(handle)
    answer = decide(Answer.REQUEST_CHANGES, "measure first")
    first, second = await asyncio.gather(
        *(handle.execute_update(RequirementWorkflow.decide, answer) for _ in range(2))
    )

    assert first == second
    await cluster.until_blocked(handle)
    assert cluster.runs.started().count("Research") == 2


async def test_one_answer_leaves_the_other_question_open(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    slow = Script(lasts=True)
    await cluster.open({ROY: [ASKS, slow], JEN: [ASKS, Script()]})
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_blocked(handle)
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.RUNNING, "human")
    assert view.escalation
    assert [ask.stage for ask in view.escalation.asks] == [JEN]
    assert JEN in await current_details(handle)

    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(JEN, "ada"))
    await cluster.runs.let_end()
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED
    answers = [asked.answer for asked in await sdlc_reader.escalations(cluster.number)]
    assert answers == ["retry", "retry"]


async def test_question_that_stays_open_blocks_again_without_being_asked_anew(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({ROY: [ASKS, Script()], JEN: [ASKS, Script()]})
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_blocked(handle)
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))

    async def is_blocked_again() -> bool:
        view = await sdlc_reader.requirement(cluster.number)
        return view.state is RequirementState.BLOCKED and view.round == 2

    await until(is_blocked_again, "it is blocked again")
    assert len(await sdlc_reader.escalations(cluster.number)) == 2
    assert (await sdlc_reader.requirement(cluster.number)).waiting_for == "human"
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(JEN, "ada"))
    assert (await handle.result()).state is RequirementState.DELIVERED


async def test_giving_up_twice_has_one_effect(cluster: Cluster) -> None:
    handle = await started(cluster, Critique=[ESCALATE])
    await cluster.until_blocked(handle)
    abort = decide(Answer.ABORT, "no need")
    await asyncio.gather(
        *(handle.execute_update(RequirementWorkflow.decide, abort) for _ in range(2))
    )

    assert (await ended(handle)).state is RequirementState.FAILED
    assert (await handle.describe()).status is WorkflowExecutionStatus.FAILED


@pytest.mark.parametrize("answer", [Answer.APPROVE, Answer.REQUEST_CHANGES])
async def test_verdict_is_refused_where_none_is_asked_for(cluster: Cluster, answer: Answer) -> None:
    handle = await started(cluster, Research=[ASKS])
    await cluster.until_blocked(handle)

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(RequirementWorkflow.decide, decide(answer))
    assert "No verdict is asked for" in str(refused.value.cause)


async def test_note_that_is_too_long_is_refused(cluster: Cluster) -> None:
    handle = await started(cluster, Critique=[ESCALATE])
    await cluster.until_blocked(handle)

    answer = decide(Answer.APPROVE, "x" * 8_001)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(RequirementWorkflow.decide, answer)
    assert "8001 characters" in str(refused.value.cause)


async def test_late_answer_is_refused_with_the_reason(cluster: Cluster) -> None:
    lasting = [Script(lasts=True)]
    handle = await started(cluster, Critique=[ESCALATE], Backend_Implementation=lasting)
    await cluster.until_blocked(handle)
    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE))

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(RequirementWorkflow.decide, decide(Answer.REQUEST_CHANGES))
    assert "only `abort` is possible" in str(refused.value.cause)


async def test_stage_that_asks_is_retried_while_another_is_repaired(cluster: Cluster) -> None:
    slow = Script(lasts=True)
    await cluster.open(
        {ROY: [ASKS, Script()], JEN: [Script(exit_code=1, output="?")], f"Fix run {JEN}": [slow]}
    )
    handle = await cluster.start(bounds=REPAIR)
    await until(lambda: is_started(cluster, f"Fix run {JEN}"), "jen's fix runs")

    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada", "postgres"))
    await until(lambda: is_started(cluster, ROY, 2), "roy runs again")
    await cluster.runs.let_end()
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.runs.started().count(JEN) == 2  # one retry is declared
    assert cluster.runs.started().count(f"Fix run {JEN}") == 1


async def test_stage_that_is_being_repaired_cannot_be_retried(cluster: Cluster) -> None:
    await cluster.open({"Research": [Script(exit_code=1, output="?")], "Fix run Research": [SLOW]})
    handle = await cluster.start(bounds=REPAIR)
    await until(lambda: is_started(cluster, "Fix run Research"), "the fix runs")

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(RequirementWorkflow.retry, RetryRequest("Research", "ada"))
    assert f"{cluster.number}-FIX-1" in str(refused.value.cause)


async def test_requirement_is_given_up_while_a_fix_runs(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({"Research": [Script(exit_code=1, output="?")], "Fix run Research": [SLOW]})
    handle = await cluster.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))
    await until(lambda: is_started(cluster, "Fix run Research"), "the fix runs")

    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.ABORT, "no need"))
    report = await ended(handle)

    assert report.state is RequirementState.FAILED
    fix = await sdlc_reader.requirement(f"{cluster.number}-FIX-1")
    assert fix.state is RequirementState.CANCELLED
    assert cluster.runs.ended


async def test_fix_that_somebody_cancels_asks_a_human(cluster: Cluster) -> None:
    await cluster.open({"Research": [Script(exit_code=1, output="?")], "Fix run Research": [SLOW]})
    handle = await cluster.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))
    await until(lambda: is_started(cluster, "Fix run Research"), "the fix runs")

    await cluster.handle(f"{cluster.number}-FIX-1").cancel()
    await cluster.until_blocked(handle)

    assert "somebody has ended it" in (await cluster.events())[-1]["asks"][0]["reason"]


SLOW = Script(minutes=600_000)


async def is_started(cluster: Cluster, stage: str, times: int = 1) -> bool:
    return cluster.runs.started().count(stage) >= times


async def test_human_who_answers_after_thirty_days_finds_a_small_history(
    day_cluster: Cluster, skipping: WorkflowEnvironment
) -> None:
    await day_cluster.open({"Research": [replace(ASKS, minutes=0), Script()]})
    handle = await day_cluster.start(bounds=Bounds(reminder=timedelta(days=1)))
    await day_cluster.until_blocked(handle)
    await skipping.sleep(timedelta(days=30))

    waiting = await handle.fetch_history()
    reminders = [e["reminder"] for e in await day_cluster.escalations() if "reminder" in e]
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest("Research", "ada"))
    report = await handle.result()

    assert reminders == [1, 2, 3, 4]
    assert len(waiting.events) < 100
    assert report.state is RequirementState.DELIVERED
