"""A stage that waits for a slot, and one that a crash kept from its start: both pass the gate."""

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import IllegalTransition, StaleAttempt
from pipeline.model import (
    Hold,
    Priority,
    RequirementState,
    SlotUsage,
    StageContext,
    StageState,
)
from tests.sdlc_factory import RESEARCH, Requirement, begin


async def queue(ours: Requirement, stage: str = RESEARCH) -> Hold | None:
    return await ours.store.queue_stage(ours.request(stage), ours.number)


async def held_before_its_start(store: PostgresSdlcStore) -> tuple[Requirement, Requirement]:
    """One whose first stage was opened and never started, and the P0 that holds it by now."""
    ours = await begin(store, "REQ-1")
    await ours.open_stage(RESEARCH)
    urgent = await begin(store, "REQ-0", Priority.P0)
    assert isinstance(await ours.try_stage(RESEARCH), Hold)
    return ours, urgent


async def told(reader: SdlcReader) -> list[str]:
    return [event.type for event in await reader.events("REQ-1")]


async def test_opened_stage_that_was_not_started_is_held_and_opened_again_as_the_same_run(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, urgent = await held_before_its_start(sdlc_store)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "REQ-0")
    assert view.stages[0].state is StageState.HELD
    assert isinstance(await ours.try_stage(RESEARCH), Hold)  # the look of the slow timer

    await urgent.close()
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)  # a repeat of the activity
    await ours.close_stage(RESEARCH)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.attempt, run.starts, run.state) == (1, 1, StageState.COMPLETED)
    types = await told(sdlc_reader)
    assert (types.count("stage.started"), types.count("stage.completed")) == (1, 1)


async def test_its_run_is_closed_if_the_requirement_ends_meanwhile(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, _ = await held_before_its_start(sdlc_store)

    await ours.close(RequirementState.CANCELLED)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.starts, run.state) == (0, StageState.FAILED)
    with pytest.raises((StaleAttempt, IllegalTransition)):
        await ours.try_stage(RESEARCH)


async def test_queued_stage_opens_nothing_and_says_its_place_and_the_slots(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    first, urgent = await begin(sdlc_store, "REQ-1"), await begin(sdlc_store, "REQ-2", Priority.P1)
    for each in (first, urgent):
        assert await queue(each) is None
    host = (await sdlc_reader.requirement("REQ-1")).host
    assert host
    await sdlc_store.record_usage(host, SlotUsage(1, 2, 4, "lowered: memory is short"))
    await sdlc_store.record_usage(host, SlotUsage(1, 1, 4, "lowered: memory is short"))

    view = await sdlc_reader.requirement("REQ-1")
    [queued] = view.queued
    assert (queued.stage, queued.place, queued.waiting) == (RESEARCH, 2, 2)
    assert (queued.used, queued.slots, queued.configured) == (1, 1, 4)
    assert (queued.host, queued.why) == (host, "lowered: memory is short")
    assert (await sdlc_reader.runs("REQ-1"), await told(sdlc_reader)) == ((), ["workflow.started"])
    listed = await sdlc_reader.requirements(waiting=True)
    assert {each.number: [q.place for q in each.queued] for each in listed} == {
        "REQ-1": [2],
        "REQ-2": [1],
    }

    await urgent.open_stage(RESEARCH)
    assert (await sdlc_reader.requirement("REQ-2")).queued == ()
    assert (await sdlc_reader.requirement("REQ-1")).queued[0].place == 1
    await first.close(RequirementState.CANCELLED)
    assert (await sdlc_reader.requirement("REQ-1")).queued == ()


async def test_who_would_wait_for_a_slot_under_a_p0_is_held_and_queued_when_it_is_over(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
    assert isinstance(await queue(ours), Hold)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.queued) == (RequirementState.HELD, ())

    await urgent.close()
    assert await queue(ours) is None
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.holds) == (RequirementState.RUNNING, ())
    assert [each.stage for each in view.queued] == [RESEARCH]
