"""An error that nobody foresaw in a task beside the main flow is an incident; nothing blocks."""

from typing import Any

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import AlertKind, IncidentEnd, RetryRequest
from pipeline.runbook import Finding
from tests.cluster import Cluster, delivered, recorded_incidents, until
from tests.fakes import Script
from tests.orchestra_plans import FOUR, PAIR, SOLO
from workflows import remediation, sasha
from workflows.gates import BuildGates
from workflows.requirement import RequirementWorkflow
from workflows.stages import StageRunner
from workflows.suspension import Suspension

# The patches stand as long as histories are replayed: `monkeypatch` comes before `cluster`.

ROY, JEN = "Backend Implementation", "Frontend Implementation"


async def check_incident(reader: SdlcReader, what: str) -> None:
    (incident, *_) = await recorded_incidents(reader)
    assert (incident.kind, incident.end) == (AlertKind.WORKFLOW_FAULT, IncidentEnd.LEFT)
    assert incident.detail.startswith(what)
    assert "KeyError: 'nobody foresaw it'" in incident.detail


def broken(original: Any, stage: str = "") -> Any:
    """The method fails until a human has answered, of that stage or of any."""

    async def method(self: Any, *arguments: Any) -> Any:
        is_meant = not stage or arguments[0].name == stage
        if is_meant and not self._execution.counts.answers:
            raise KeyError("nobody foresaw it")
        return await original(self, *arguments)

    return method


async def test_error_in_a_verification_asks_a_human_and_leaves_no_key_behind(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    monkeypatch.setattr(BuildGates, "_build", broken(BuildGates._build))
    await cluster.open()
    handle = await cluster.start(FOUR)
    await cluster.until_blocked(handle)

    failures = (await sdlc_reader.requirement(cluster.number)).failures
    assert {failure.kind for failure in failures} == {"infrastructure"}
    assert {failure.gate for failure in failures} == {"build backend", "build frontend"}
    await check_incident(sdlc_reader, "build ")
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))
    await delivered(handle)

    assert sorted(cluster.runs.started()) == sorted(stage.name for stage in FOUR.stages)


async def test_error_in_a_stage_fails_that_stage_alone(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    monkeypatch.setattr(StageRunner, "_attempts", broken(StageRunner._attempts, ROY))
    await cluster.open()
    handle = await cluster.start(PAIR)
    await cluster.until_blocked(handle)

    (failure,) = (await sdlc_reader.requirement(cluster.number)).failures
    assert (failure.stage, failure.kind, failure.owners) == (ROY, "infrastructure", ())
    await check_incident(sdlc_reader, ROY)
    assert cluster.runs.started() == [JEN]
    await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))
    await delivered(handle)


async def test_error_while_agents_are_suspended_is_told_and_a_later_signal_looks_again(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    async def failing(_: Suspension) -> None:
        raise KeyError("nobody foresaw it")

    monkeypatch.setattr(Suspension, "_stand", failing)
    await cluster.open({ROY: [Script(lasts=True)]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    await handle.signal(RequirementWorkflow.apply_preemption)
    await check_incident(sdlc_reader, "suspend or resume agents")
    await handle.signal(RequirementWorkflow.apply_preemption)

    assert len(await recorded_incidents(sdlc_reader, 2)) == 2
    await cluster.runs.let_end()
    await delivered(handle)


async def test_look_of_sashas_that_fails_does_not_keep_her_from_the_next(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    original = remediation.look

    async def failing(place: str) -> tuple[Finding, ...] | None:
        found = await original(place)
        if place:
            raise KeyError("nobody foresaw it")
        return found

    monkeypatch.setattr(sasha, "look", failing)
    await cluster.open()
    await cluster.scheduled_check()
    await check_incident(sdlc_reader, f"look at {cluster.host}")
    looks = cluster.host_care.looks
    await cluster.scheduled_check()

    async def looks_again() -> bool:
        return cluster.host_care.looks > looks

    await until(looks_again, "she looks again")
