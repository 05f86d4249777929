import asyncio
from dataclasses import replace

import pytest

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.agents_file import BuildCommand
from pipeline.model import Pipeline, RetryRequest
from tests.cluster import AGENTS, REPAIR, Cluster, retry_when_possible, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.plans import a_plan, a_stage, shipped
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"


def with_conditional_builder() -> Pipeline:
    vic = replace(a_stage("Hardening", "vic", ["QA"], flag="needs_vic"), builds=("backend",))
    return a_plan(a_stage("QA", "billy"), vic, a_stage("Docs", needs=["Hardening"]))


async def test_build_of_a_skipped_stage_is_not_waited_for(cluster: Cluster) -> None:
    await cluster.open()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await cluster.deliver(with_conditional_builder())

    assert cluster.runs.started() == ["QA", "Docs"]
    assert cluster.builds.built() == []


async def test_retry_while_the_sibling_still_builds_is_not_blocked_by_the_old_red(
    cluster: Cluster,
) -> None:
    await cluster.open(builds={"backend": [2, 0]})
    cluster.builds.hold("frontend")
    handle = await cluster.start()
    await retry_when_possible(handle, ROY)
    cluster.builds.release("frontend")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await handle.result()

    assert "workflow.blocked" not in await cluster.types()
    assert cluster.runs.started().count(ROY) == 2
    assert cluster.runs.started().count("Backend QA") == 1


async def test_all_passed_is_not_said_beside_a_red_build(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await cluster.open(builds={"backend": [2]})
    cluster.builds.minutes["frontend"] = 300
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    async def is_reported() -> bool:
        lines = ("❌ PARALLEL BUILD VERIFICATION FAILED", "❌ roy build failed:")
        return all(line in caplog.text for line in lines)

    await until(is_reported, "the report is logged")
    assert "All parallel builds PASSED" not in caplog.text


async def test_all_passed_is_said_once_for_builds_that_passed_together(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await cluster.open()
    await cluster.deliver()

    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("✅ All parallel builds PASSED") for line in lines) == 1
    start = f"[{cluster.number}] Starting {ROY} (roy) in parallel group"
    assert sum(line.startswith(start) for line in lines) == 1
    assert sum(line.startswith("🚀 Executing workflow with PARALLELIZATION") for line in lines) == 1


async def test_red_final_build_is_verified_again_by_retrying_the_delivery(cluster: Cluster) -> None:
    """No stage is blocked by it, and its owner's work needs no second payment."""
    late = replace(shipped("standard"), name="late")
    roy = late.stage(ROY)
    stages = (
        *(replace(s, builds=()) if s.name in (ROY, JEN) else s for s in late.stages),
        replace(
            a_stage("Last", "roy", [late.stages[-1].name]), builds=roy.builds, group="Documentation"
        ),
    )
    await cluster.open(builds={"backend": [2, 0]})
    handle = await cluster.start(replace(late, stages=stages))
    await cluster.until_blocked(handle)

    await handle.execute_update(RequirementWorkflow.retry, RetryRequest("deliver", "ada"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state == "DELIVERED"
    assert (await cluster.types()).count("workflow.deployed_undelivered") == 1
    assert cluster.runs.started().count("Last") == 1
    assert cluster.builds.built() == ["backend", "backend"]


async def test_many_long_failures_travel_as_one_small_report(cluster: Cluster) -> None:
    crowd = [a_stage(f"Docs {n}", minutes=1) for n in range(20)]
    failed = Script({"status": "FAILED", "summary": "x" * 20_000})
    await cluster.open({stage.name: [failed] for stage in crowd})
    handle = await cluster.start(a_plan(*crowd))
    await cluster.until_blocked(handle)

    history = await handle.fetch_history()
    inputs = [
        event.activity_task_scheduled_event_attributes.input.payloads[0]
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert max(len(payload.data) for payload in inputs) < 64 * 1024
    assert len((await cluster.blocked())["failures"]) == 20


KEEPS_ITS_CHECKOUT = replace(
    AGENTS, builds={"backend": BuildCommand("backend", ("true",), incremental=True)}
)


def built_then_tested() -> Pipeline:
    """One build, one stage that stands on it, and nothing merged behind it."""
    roy = replace(a_stage(ROY, "roy"), builds=("backend",))
    return a_plan(roy, a_stage("QA", "billy", [ROY]))


async def test_one_clean_build_serves_the_stage_and_the_delivery(cluster: Cluster) -> None:
    await cluster.open()

    await cluster.deliver(built_then_tested())

    assert [request.clean for request in cluster.builds.requests] == [True]


async def test_delivery_does_not_stand_on_an_incremental_build(
    cluster: Cluster, workspaces: GitWorkspaces, sdlc_reader: SdlcReader
) -> None:
    await cluster.open(agents=KEEPS_ITS_CHECKOUT, workspaces=workspaces)

    await cluster.deliver(built_then_tested())

    assert [request.clean for request in cluster.builds.requests] == [False, True]
    gates = (await sdlc_reader.requirement(cluster.number)).gates
    assert [(gate.gate, gate.clean) for gate in gates if gate.clean is not None] == [
        ("build backend", False),
        ("build backend", True),
    ]


async def test_what_only_a_clean_build_finds_is_verified_clean_after_its_fix(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    await cluster.open(
        builds={"backend": [0, 2, 0]}, agents=KEEPS_ITS_CHECKOUT, workspaces=workspaces
    )
    handle = await cluster.start(built_then_tested(), bounds=REPAIR)

    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state == "DELIVERED"
    assert [request.clean for request in cluster.builds.requests][:3] == [False, True, True]
