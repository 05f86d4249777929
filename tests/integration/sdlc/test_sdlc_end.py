from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import RequirementState
from pipeline.savings import Savings
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    QA,
    RESEARCH,
    SECURITY,
    Requirement,
)


async def _last_events(reader: SdlcReader, count: int) -> list[dict[str, object]]:
    return [dict(event.payload) for event in await reader.events("REQ-1")][-count:]


async def _delivered(store: PostgresSdlcStore) -> Requirement:
    """30 + 30, then 60 beside 40, a build of 10, 30 and a skip: 200 in 160 minutes."""
    requirement = await Requirement(store).begun()
    await requirement.run(RESEARCH, start=0)
    await requirement.run(CRITIQUE, start=30)
    await requirement.run(BACKEND, start=60, minutes=60)
    await requirement.run(FRONTEND, start=60, minutes=40)
    await requirement.build(start=120, minutes=10)
    await requirement.run(QA, start=130, minutes=30)
    await requirement.skip(SECURITY)
    await requirement.close()
    return requirement


async def test_performance_follows_the_completion(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await _delivered(sdlc_store)

    completed, performance = await _last_events(sdlc_reader, 2)

    assert completed["eventType"] == "workflow.completed"
    assert completed["commit"] == "final"
    assert isinstance(completed["duration"], int)
    assert performance["eventType"] == "workflow.performance"
    assert performance["sequentialTime"] == pytest.approx(200 / 60)
    assert performance["parallelTime"] == pytest.approx(160 / 60)
    assert performance["timeSaved"] == pytest.approx(40 / 60)
    assert performance["percentageSaved"] == 20.0


async def test_savings_are_measured_at_any_time(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    assert await sdlc_store.savings("REQ-1") == Savings(timedelta(), timedelta())

    await requirement.run(RESEARCH, start=0, minutes=30)
    await requirement.run(CRITIQUE, start=15, minutes=30)

    performance = await sdlc_reader.performance("REQ-1")
    assert (performance.sequential_seconds, performance.parallel_seconds) == (3600, 2700)
    assert performance.percentage_saved == 25.0


async def test_one_after_another_saves_exactly_nothing(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE, BACKEND, FRONTEND, QA)
    await requirement.close()

    [performance] = await _last_events(sdlc_reader, 1)

    assert (performance["timeSaved"], performance["percentageSaved"]) == (0, 0)


async def test_clock_that_was_set_back_does_not_stop_the_end(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH, minutes=-5)
    await requirement.close()

    assert (await sdlc_reader.runs("REQ-1"))[0].seconds == 0
    assert (await sdlc_store.savings("REQ-1")).sequential == timedelta()


async def test_time_that_a_human_took_stands_beside_the_savings(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    failure = await requirement.fail(RESEARCH)
    await requirement.block(failure)
    await requirement.reopen(RESEARCH)
    await requirement.close()

    phases = {p.target: p.at for p in await sdlc_reader.phases("REQ-1") if p.source == "BLOCKED"}
    [blocked] = [p.at for p in await sdlc_reader.phases("REQ-1") if p.target == "BLOCKED"]
    performance = await sdlc_reader.performance("REQ-1")

    assert performance.human_seconds == (phases["RUNNING"] - blocked).total_seconds()
    assert performance.hold_seconds == 0
    assert performance.wall_seconds >= performance.human_seconds


async def test_delivery_leaves_nothing_open(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    failure = await requirement.fail(RESEARCH)
    await requirement.block(failure)
    await requirement.reopen(RESEARCH)
    await requirement.run(RESEARCH, 2)
    await requirement.close()

    view = await sdlc_reader.requirement("REQ-1")

    assert (view.state, view.failures, view.waiting_for) == ("DELIVERED", (), "")
    assert view.ended_at is not None


async def test_abort_keeps_what_failed(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    failure = await requirement.fail(RESEARCH)
    await requirement.block(failure)
    await requirement.close(RequirementState.FAILED)

    view = await sdlc_reader.requirement("REQ-1")
    failed, _ = await _last_events(sdlc_reader, 2)

    assert (view.state, view.reason, len(view.failures)) == ("FAILED", "Because.", 1)
    assert (failed["eventType"], failed["error"]) == ("workflow.failed", "Because.")


async def test_refusal_by_the_host_ends_what_never_ran(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = Requirement(sdlc_store)
    await requirement.accept()
    await requirement.close(RequirementState.FAILED)

    assert (await sdlc_reader.requirement("REQ-1")).state is RequirementState.FAILED


async def test_cancellation_ends_running_stages_and_leaves_the_others(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    await requirement.open_stage(BACKEND)
    await requirement.close(RequirementState.CANCELLED)

    view = await sdlc_reader.requirement("REQ-1")
    stages = {stage.stage: stage for stage in view.stages}
    failed, cancelled, performance = await _last_events(sdlc_reader, 3)

    assert (stages[BACKEND].state, stages[BACKEND].reason) == ("failed", "Because.")
    assert (stages[CRITIQUE].state, stages[FRONTEND].state) == ("completed", "waiting")
    assert (failed["stage"], failed["error"]) == (BACKEND, "Because.")
    assert (cancelled["eventType"], cancelled["who"]) == ("workflow.cancelled", "ann")
    assert performance["eventType"] == "workflow.performance"


async def test_list_shows_the_newest_first_and_who_waits(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    for number in ("REQ-1", "REQ-2", "REQ-3"):
        await Requirement(sdlc_store, number).begun()
    waiting = Requirement(sdlc_store, "REQ-2")
    await waiting.block(await waiting.fail(RESEARCH))

    listed = await sdlc_reader.requirements()
    running = await sdlc_reader.requirements(states=[RequirementState.RUNNING], limit=1)
    blocked = await sdlc_reader.requirements(waiting=True)

    assert [each.number for each in listed] == ["REQ-3", "REQ-2", "REQ-1"]
    assert [each.number for each in running] == ["REQ-3"]
    assert [(each.number, each.waiting_for) for each in blocked] == [("REQ-2", "human")]


async def test_events_are_read_on_from_an_id(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    [started] = await sdlc_reader.events()
    await requirement.open_stage(RESEARCH)

    [later] = await sdlc_reader.events("REQ-1", after=started.id)

    assert later.type == "stage.started"
    assert later.created_at <= datetime.now(UTC)
    assert await sdlc_reader.events("REQ-2") == ()
