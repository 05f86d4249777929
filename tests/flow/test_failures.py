import pytest
from temporalio.client import WorkflowUpdateFailedError

from pipeline.model import (
    Answer,
    DecisionRequest,
    RequirementState,
    RetryRequest,
    RunEnd,
)
from tests.cluster import Cluster, ended, retry_when_possible
from tests.fakes import Script
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"
CRASH = Script(exit_code=1, output="no notice here")
FAILED = Script({"status": "FAILED", "summary": "cannot be done"})
FAIL = Script({"test_result": "FAIL", "failures": ["greet() is wrong"]})
PASS = Script()


def retry(stage: str) -> RetryRequest:
    return RetryRequest(stage, "ada", "try again")


def decide(answer: Answer, note: str = "") -> DecisionRequest:
    return DecisionRequest(answer, "ada", note)


async def test_sibling_continues_and_exactly_the_failure_is_reported(cluster: Cluster) -> None:
    await cluster.open({ROY: [Script({"status": "FAILED", "summary": "no"}, minutes=5)]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    blocked = await cluster.blocked()
    assert [failure["stage"] for failure in blocked["failures"]] == [ROY]
    types = [(e["eventType"], e.get("stage")) for e in await cluster.events()]
    assert ("stage.completed", JEN) in types
    assert cluster.builds.built() == []
    assert "Backend QA" not in cluster.runs.started()


async def test_both_failures_are_reported_together(cluster: Cluster) -> None:
    await cluster.open({ROY: [FAILED], JEN: [FAILED]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    (blocked,) = [e for e in await cluster.events() if e["eventType"] == "workflow.blocked"]
    assert {tuple(failure["owners"]) for failure in blocked["failures"]} == {("roy",), ("jen",)}


async def test_crashed_agent_is_run_a_second_time_and_no_more(cluster: Cluster) -> None:
    await cluster.open({ROY: [CRASH, PASS]})
    await cluster.deliver()

    assert cluster.runs.started().count(ROY) == 2
    assert cluster.runs.started().count(JEN) == 1
    (failed,) = [e for e in await cluster.events() if e["eventType"] == "stage.failed"]
    assert failed["action"] == "RETRY"


async def test_stage_without_retries_is_not_tried_again(cluster: Cluster) -> None:
    await cluster.open({"Research": [CRASH]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    assert cluster.runs.started() == ["Research"]
    (failed,) = [e for e in await cluster.events() if e["eventType"] == "stage.failed"]
    assert failed["action"] == "BLOCKED"


async def test_lost_runs_cost_no_try_until_the_third(cluster: Cluster) -> None:
    lost = Script(end=RunEnd.LOST)
    await cluster.open({"Research": [lost, lost, PASS]})
    await cluster.deliver()

    assert cluster.runs.started().count("Research") == 3


async def test_three_losses_in_a_row_block_without_an_owner(cluster: Cluster) -> None:
    await cluster.open({"Research": [Script(end=RunEnd.LOST)]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    blocked = await cluster.blocked()
    assert cluster.runs.started().count("Research") == 3
    assert blocked["failures"][0]["owners"] == []


async def test_timeout_is_an_event_that_names_the_agent(cluster: Cluster) -> None:
    await cluster.open({"Research": [Script(end=RunEnd.TIMED_OUT)]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    (timeout,) = [e for e in await cluster.events() if e["eventType"] == "stage.timeout"]
    assert (timeout["reqNumber"], timeout["agent"]) == (cluster.number, "cynthia")


async def test_two_broken_builds_are_two_events_and_no_qa(cluster: Cluster) -> None:
    await cluster.open(builds={"backend": [2], "frontend": [1]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    events = await cluster.events()
    failed = [e for e in events if e["eventType"] == "build.failed"]
    assert sorted(e["agent"] for e in failed) == ["jen", "roy"]
    assert all("error TS2345" in e["errors"][0] for e in failed)
    assert {f["gate"] for f in (await cluster.blocked())["failures"]} == {
        "build backend",
        "build frontend",
    }
    assert "Backend QA" not in cluster.runs.started()


async def test_retry_of_a_broken_build_runs_its_owner_and_not_its_sibling(cluster: Cluster) -> None:
    await cluster.open(builds={"backend": [2, 0]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    reopened = await handle.execute_update(RequirementWorkflow.retry, retry(ROY))
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert reopened.stages[0] == ROY
    assert JEN not in reopened.stages
    started = cluster.runs.started()
    assert {stage: started.count(stage) for stage in ("Research", "Critique", ROY, JEN)} == {
        "Research": 1,
        "Critique": 1,
        ROY: 2,
        JEN: 1,
    }
    assert "error TS2345" in cluster.runs.order(ROY).prompt


async def test_retry_of_the_blocked_stage_builds_again(cluster: Cluster) -> None:
    await cluster.open(builds={"backend": [2, 0]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    await handle.execute_update(RequirementWorkflow.retry, retry("Backend QA"))
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.builds.built().count("backend") == 2
    assert cluster.runs.started().count(ROY) == 1


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [("REQUEST_CHANGES", "critique"), ("REJECTED", "critique"), ("ESCALATE", "critique")],
)
@pytest.mark.parametrize("sequential", [False, True])
async def test_red_critique_blocks_with_its_reasons(
    cluster: Cluster, verdict: str, kind: str, sequential: bool
) -> None:
    red = Script({"critique_verdict": verdict, "reasons": ["no unit is named"]})
    await cluster.open({"Critique": [red]})
    handle = await cluster.start(sequential=sequential)
    await cluster.until_blocked(handle)

    (failure,) = (await cluster.blocked())["failures"]
    assert failure["kind"] == kind
    assert "no unit is named" in failure["error"]
    assert cluster.runs.started() == ["Research", "Critique"]


async def test_missing_verdict_is_a_failure_and_no_approval(cluster: Cluster) -> None:
    await cluster.open({"Critique": [Script({"critique_verdict": None})]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE))
    assert cluster.runs.started() == ["Research", "Critique"]


async def test_human_passes_a_critique(cluster: Cluster) -> None:
    await cluster.open({"Critique": [Script({"critique_verdict": "ESCALATE"})]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE, "fine"))
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.runs.started().count("Critique") == 1


async def test_human_sends_a_critique_back_to_research(cluster: Cluster) -> None:
    red = Script({"critique_verdict": "REQUEST_CHANGES", "reasons": ["no unit"]})
    await cluster.open({"Critique": [red, PASS]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    answer = decide(Answer.REQUEST_CHANGES, "name the unit")
    await handle.execute_update(RequirementWorkflow.decide, answer)
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.runs.started()[:4] == ["Research", "Critique", "Research", "Critique"]
    assert "name the unit" in cluster.runs.order("Research").prompt


async def test_aborted_requirement_ends_failed(cluster: Cluster) -> None:
    await cluster.open({"Research": [FAILED]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    await handle.execute_update(RequirementWorkflow.decide, decide(Answer.ABORT, "not worth it"))
    report = await ended(handle)

    assert report.state is RequirementState.FAILED
    assert "not worth it" in report.reason
    assert (await cluster.types())[-2:] == ["workflow.failed", "workflow.performance"]


async def test_both_failed_tests_are_reported_with_their_owners(cluster: Cluster) -> None:
    await cluster.open({"Backend QA": [FAIL], "Frontend QA": [FAIL]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    failures = (await cluster.blocked())["failures"]
    assert [(f["gate"], f["owners"]) for f in failures] == [
        ("verdict Backend QA", ["roy"]),
        ("verdict Frontend QA", ["jen"]),
    ]
    assert "Statistics" not in cluster.runs.started()


async def test_failed_test_cannot_be_approved(cluster: Cluster) -> None:
    await cluster.open({"Backend QA": [FAIL]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(RequirementWorkflow.decide, decide(Answer.APPROVE))


async def test_failing_documentation_blocks_like_any_other(cluster: Cluster) -> None:
    await cluster.open({"Documentation Update": [FAILED]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    assert [f["owners"] for f in (await cluster.blocked())["failures"]] == [["tim"]]


async def test_retry_is_taken_while_the_round_still_runs(cluster: Cluster) -> None:
    quick = Script({"status": "FAILED", "summary": "no"}, minutes=1)
    await cluster.open({"Backend QA": [quick, PASS], "Frontend QA": [Script(lasts=True)]})
    handle = await cluster.start("critical-path")
    reopened = await retry_when_possible(handle, "Backend QA")
    await cluster.runs.let_end()
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert reopened.stages == ("Backend QA",)
    assert "workflow.blocked" not in await cluster.types()
