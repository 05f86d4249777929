"""A dependency is away: everything holds, nothing is lost, and all continues when it is back."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from temporalio.client import WorkflowFailureError

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from pipeline.errors import DependencyUnavailable
from pipeline.model import (
    OPENING,
    Alert,
    AlertKind,
    Answer,
    Closing,
    DecisionRequest,
    Ending,
    IncidentEnd,
    Notification,
    Pipeline,
    Priority,
    RequirementOrder,
    RequirementState,
    RetryRequest,
    RunEnd,
)
from pipeline.plan_rules import DELIVER
from tests.cluster import REPAIR, Cluster, Handle, delivered, ended, recorded_incidents, until
from tests.fakes import Script
from tests.orchestra_plans import FOUR, SOLO, team_of
from workflows.requirement import RequirementWorkflow

ROY, BILLY = "Backend Implementation", "Backend QA"
NATS = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")
DATABASE = Alert(AlertKind.DATABASE_DOWN, "database", detail="No answer.")
AWAY = {"NATS": NATS, "SDLC database": DATABASE}
LONG = Script(lasts=True)
"""Until something is away."""


@pytest.fixture(params=AWAY)
def dependency(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def until_called(cluster: Cluster) -> None:
    async def is_looked_at() -> bool:
        return cluster.cluster_care.looks > 0

    await until(is_looked_at, "Sasha looks")


async def take_away(cluster: Cluster, *alerts: Alert) -> None:
    """Her first act brings it back."""
    cluster.cluster_care.alerts = list(alerts)
    cluster.cluster_care.cures = {alert.kind: 1 for alert in alerts}
    await cluster.runs.let_end()


async def check_records(
    cluster: Cluster, reader: SdlcReader, dependency: str, number: str = ""
) -> None:
    """The hold is a row with both times and two events; the incident is one, repaired."""
    holds = await reader.holds(number or cluster.number)
    assert holds, "no hold became a row"
    assert {hold.held_by for hold in holds} == {(dependency,)}
    assert all(hold.ended_at and hold.ended_at > hold.since for hold in holds)
    told = await cluster.types(number)
    assert told.count("workflow.held") == told.count("workflow.resumed") == len(holds)
    (incident,) = await recorded_incidents(reader)
    assert (incident.kind, incident.end) == (AWAY[dependency].kind, IncidentEnd.REPAIRED)
    assert incident.actions == ("act 1",)


async def test_session_that_was_cut_off_waits_for_a_dependency_as_the_same_attempt(
    cluster: Cluster, sdlc_reader: SdlcReader, dependency: str
) -> None:
    died = replace(LONG, end=RunEnd.LOST, ending=Ending.CUT_OFF, is_resumable=True)
    await cluster.open({ROY: [died, Script()]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    await take_away(cluster, AWAY[dependency])
    await delivered(handle)

    (stage,) = (await sdlc_reader.requirement(cluster.number)).stages
    assert (stage.attempt, stage.starts, stage.resumes) == (1, 1, 1)
    assert await sdlc_reader.holds(cluster.number) == ()


async def test_no_stage_starts_while_a_dependency_is_away(
    cluster: Cluster, sdlc_reader: SdlcReader, dependency: str
) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(ROY)
    await take_away(cluster, AWAY[dependency])
    cluster.cluster_care.cures = {}
    await until_called(cluster)

    assert BILLY not in cluster.runs.started()
    cluster.cluster_care.cures = {AWAY[dependency].kind: len(cluster.cluster_care.acts) + 1}
    await delivered(handle)

    runs = await sdlc_reader.runs(cluster.number)
    assert {(run.attempt, run.starts) for run in runs} == {(1, 1)}
    (incident,) = await recorded_incidents(sdlc_reader)
    assert incident.end is IncidentEnd.REPAIRED


@pytest.mark.parametrize("stage", [ROY, BILLY])
async def test_agent_that_ends_meanwhile_keeps_its_result(
    cluster: Cluster, dependency: str, stage: str
) -> None:
    """Its closing is repeated; the next boundary holds, and Sasha is called from there."""
    await cluster.open({stage: [LONG]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(stage)
    await take_away(cluster, AWAY[dependency])
    await delivered(handle)

    assert sorted(cluster.runs.started()) == sorted(s.name for s in FOUR.stages)
    types = await cluster.types()
    assert types.count("stage.completed") == 4
    assert len(types) == len({str(event["eventId"]) for event in await cluster.events()})


async def test_requirement_that_is_opened_meanwhile_waits(
    cluster: Cluster, sdlc_reader: SdlcReader, dependency: str
) -> None:
    await cluster.open()
    await take_away(cluster, AWAY[dependency])
    await delivered(await cluster.start(SOLO))

    await check_records(cluster, sdlc_reader, dependency)


async def test_requirement_that_is_cancelled_meanwhile_ends_when_it_can_be_written_down(
    cluster: Cluster, sdlc_reader: SdlcReader, dependency: str
) -> None:
    await cluster.open()
    await take_away(cluster, AWAY[dependency])
    cluster.cluster_care.cures = {}
    handle = await cluster.start(SOLO)
    await until_called(cluster)

    await handle.cancel()
    cluster.cluster_care.alerts = []
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert (await sdlc_reader.requirement(cluster.number)).state is RequirementState.CANCELLED
    assert (await cluster.types())[-2:] == ["workflow.cancelled", "workflow.performance"]


async def test_repair_of_a_failure_is_held_and_goes_on(
    cluster: Cluster, sdlc_reader: SdlcReader, dependency: str
) -> None:
    """Report, fix, merge, gates and results all pass boundaries."""
    await cluster.open({ROY: [LONG]}, {"backend": [1, 0]})
    handle = await cluster.start(SOLO, bounds=REPAIR)
    await cluster.until_running(ROY)
    await take_away(cluster, AWAY[dependency])
    await delivered(handle)

    assert (await cluster.types()).count("workflow.blocked") == 1
    assert (await sdlc_reader.requirement(cluster.number)).fixes


AT_STEPS = pytest.mark.parametrize(
    ("step", "plan", "before", "boundary"),
    [
        ("pass_opening", SOLO, "", OPENING),
        ("open_stage", team_of("Research", "Backend"), "Research", ROY),
        ("open_build", SOLO, ROY, "build backend"),
        ("pass_delivery", team_of("Research"), "Research", DELIVER),
    ],
)
"""What passes the P0 gate; `before` it runs the stage that lasts until something has happened."""


def take_away_at(cluster: Cluster, step: str) -> None:
    """The database is away from the moment in which that step is reached."""

    async def reach(*arguments: object, **named: object) -> object:
        del vars(cluster.database)[step]
        cluster.cluster_care.alerts = [DATABASE]
        return await getattr(cluster.database, step)(*arguments, **named)

    vars(cluster.database)[step] = reach


async def start_and_then(
    cluster: Cluster, plan: Pipeline, before: str, happens: Callable[[], Awaitable[object]]
) -> Handle:
    """Something happens before the requirement's next step, which may be the first."""
    await cluster.open({before: [LONG]})
    if not before:
        await happens()
        return await cluster.start(plan)
    handle = await cluster.start(plan)
    await cluster.until_running(before)
    await happens()
    await cluster.runs.let_end()
    return handle


async def accept_p0(cluster: Cluster) -> str:
    """A P0 that nobody has begun."""
    number = f"{cluster.number}-URGENT"
    urgent = RequirementOrder(number, "A title", Priority.P0, SOLO, False, None)
    await cluster.store.accept_all([Acceptance(urgent, "It burns.")])
    return number


async def until_held_by(reader: SdlcReader, number: str, who: str, boundary: str) -> None:
    async def is_held() -> bool:
        view = await reader.requirement(number)
        return any((hold.held_by, hold.boundary) == ((who,), boundary) for hold in view.holds)

    await until(is_held, f"{who} holds {number} at {boundary}")


async def deliver_both(cluster: Cluster, reader: SdlcReader, handle: Handle, urgent: str) -> None:
    """Both holds were rows and events, and nothing was started twice."""
    await delivered(await cluster.start(SOLO, number=urgent, priority=Priority.P0), handle)

    holds = await reader.holds(handle.id)
    told = await cluster.types(handle.id)
    assert {hold.held_by for hold in holds} == {(urgent,), ("SDLC database",)}
    assert all(hold.ended_at for hold in holds)
    assert told.count("workflow.held") == told.count("workflow.resumed") == len(holds)
    runs = await reader.runs(handle.id)
    assert {(run.attempt, run.starts) for run in runs} == {(1, 1)}
    (incident,) = await recorded_incidents(reader)
    assert incident.component == "database"


@AT_STEPS
async def test_p0_that_is_opened_during_an_outage_holds_what_the_outage_has_held(
    cluster: Cluster, sdlc_reader: SdlcReader, step: str, plan: Pipeline, before: str, boundary: str
) -> None:
    async def outage() -> None:
        take_away_at(cluster, step)

    handle = await start_and_then(cluster, plan, before, outage)
    await until_called(cluster)
    urgent = await accept_p0(cluster)

    cluster.cluster_care.alerts = []
    await until_held_by(sdlc_reader, handle.id, urgent, boundary)
    await deliver_both(cluster, sdlc_reader, handle, urgent)


async def look_again(cluster: Cluster, handle: Handle, urgent: str) -> None:
    """Something changes at the gate that does not concern it, and it is told so."""
    other = RequirementOrder(f"{handle.id}-OTHER", "A title", Priority.P2, SOLO, False, None)
    await cluster.store.accept(other, "")
    await cluster.store.add_blocker(other.number, urgent)
    gate = await cluster.store.to_notify()
    await cluster.ports.notifier.notify(Notification((handle.id,), gate.gate_version))


@AT_STEPS
async def test_outage_that_begins_while_a_p0_holds_lets_nothing_pass(
    cluster: Cluster, sdlc_reader: SdlcReader, step: str, plan: Pipeline, before: str, boundary: str
) -> None:
    urgent = f"{cluster.number}-URGENT"
    handle = await start_and_then(cluster, plan, before, lambda: accept_p0(cluster))
    await until_held_by(sdlc_reader, handle.id, urgent, boundary)
    started = cluster.runs.started()

    take_away_at(cluster, step)
    await look_again(cluster, handle, urgent)
    await until_called(cluster)
    cluster.cluster_care.alerts = []
    await until_held_by(sdlc_reader, handle.id, urgent, boundary)

    assert cluster.runs.started() == started
    await deliver_both(cluster, sdlc_reader, handle, urgent)


@pytest.mark.parametrize("write", ["skip_stages", "close_requirement", "publish_pending"])
async def test_outage_that_begins_right_before_a_note_is_a_hold_like_any_other(
    cluster: Cluster, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """What is noted within a workflow task finds the dependency away, and nobody knew before."""
    real = getattr(cluster.store, write)
    closed, ended = cluster.store.close_requirement, []

    async def close(closing: Closing) -> bool:
        ended.append(closing)
        return await closed(closing)

    async def away(*arguments: object) -> object:
        is_late = write != "publish_pending" or ended
        if is_late and cluster.cluster_care.looks == 0:
            cluster.cluster_care.alerts = [DATABASE]
            cluster.cluster_care.cures = {DATABASE.kind: 1}
            raise DependencyUnavailable("SDLC database", "its address", "Start it.")
        return await real(*arguments)

    if write == "publish_pending":
        monkeypatch.setattr(cluster.store, "close_requirement", close)
    monkeypatch.setattr(cluster.store, write, away)
    await cluster.open()

    await delivered(await cluster.start())

    await check_records(cluster, sdlc_reader, "SDLC database")


async def test_both_away_at_once(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open()
    await take_away(cluster, NATS, DATABASE)
    await delivered(await cluster.start(SOLO))

    found = await recorded_incidents(sdlc_reader, 2)
    assert {incident.component for incident in found} == {"nats", "database"}
    assert {incident.end for incident in found} == {IncidentEnd.REPAIRED}


async def test_everybody_who_was_held_is_told(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open()
    numbers = [f"{cluster.number}-{nth}" for nth in range(20)]
    await take_away(cluster, NATS)
    await delivered(*[await cluster.start(SOLO, number=number) for number in numbers])

    assert len(await recorded_incidents(sdlc_reader)) == 1


async def test_what_cannot_be_repaired_asks_a_human_and_ends_by_itself(
    cluster: Cluster, sdlc_reader: SdlcReader, hasty: None
) -> None:
    await cluster.open()
    cluster.cluster_care.alerts = [NATS]
    handle = await cluster.start(SOLO)
    number = await infrastructure(sdlc_reader)

    view = await sdlc_reader.requirement(number)
    assert (view.priority, view.state, view.waiting_for) == ("P0", "BLOCKED", "human")
    assert view.escalation
    assert view.escalation.answers == ("retry deliver", "decide abort")
    assert view.failures[0].error.endswith("- act 1\n- act 2\n- act 3")
    cluster.cluster_care.alerts = []
    urgent = cluster.handle(number)
    await urgent.execute_update(RequirementWorkflow.retry, RetryRequest(DELIVER, "ada"))
    await delivered(urgent, handle)

    (incident,) = await recorded_incidents(sdlc_reader)
    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, number)


async def test_human_may_give_the_repair_up(
    cluster: Cluster, sdlc_reader: SdlcReader, hasty: None
) -> None:
    """The disk, say: then what was held by the P0 continues."""
    await cluster.open()
    cluster.host_care.alerts = [Alert(AlertKind.DISK_LOW, "disk", detail="1 MiB is free.")]
    await cluster.scheduled_check()
    number = await infrastructure(sdlc_reader)
    handle = await cluster.start(SOLO)

    urgent = cluster.handle(number)
    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await urgent.execute_update(RequirementWorkflow.decide, abort)

    assert (await ended(urgent)).state is RequirementState.FAILED
    await delivered(handle)


async def infrastructure(reader: SdlcReader) -> str:
    """The number of the P0 that stands for what could not be repaired."""
    found: list[str] = []

    async def is_open() -> bool:
        listed = await reader.requirements(states=(RequirementState.BLOCKED,))
        found[:] = [each.number for each in listed if each.number.startswith("REQ-INFRA")]
        return bool(found)

    await until(is_open, "a P0 stands for it")
    return found[0]
