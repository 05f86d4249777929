"""A stage that was opened and waited for a permit, while a P0 was opened."""

import pytest

from adapters.sdlc_reader import SdlcReader
from adapters.sdlc_store import PostgresSdlcStore
from pipeline.errors import IllegalTransition, StaleAttempt
from pipeline.model import Hold, Priority, RequirementState, StageContext, StageState
from tests.sdlc_factory import RESEARCH, Requirement, begin


async def held_again(store: PostgresSdlcStore) -> tuple[Requirement, Requirement]:
    """One whose first stage was opened and is held, and the P0 that holds it."""
    ours = await begin(store, "REQ-1")
    await ours.open_stage(RESEARCH)
    urgent = await begin(store, "REQ-0", Priority.P0)
    assert isinstance(await pass_again(ours), Hold)
    return ours, urgent


async def pass_again(ours: Requirement) -> Hold | None:
    return await ours.store.pass_again(ours.request(RESEARCH), ours.number)


async def told(reader: SdlcReader) -> list[str]:
    return [event.type for event in await reader.events("REQ-1")]


async def test_it_starts_if_nothing_holds_it(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await ours.open_stage(RESEARCH)

    assert await pass_again(ours) is None
    assert (await sdlc_reader.requirement("REQ-1")).stages[0].state is StageState.RUNNING


async def test_it_is_held_and_opened_again_as_the_same_run(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, urgent = await held_again(sdlc_store)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "REQ-0")
    assert view.stages[0].state is StageState.HELD
    assert isinstance(await ours.try_stage(RESEARCH), Hold)  # the look of the slow timer

    await urgent.close()
    assert (await sdlc_store.to_wake()).workflow_ids == ("REQ-1",)
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)  # a repeat of the activity
    await ours.close_stage(RESEARCH)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.attempt, run.starts, run.state) == (1, 1, StageState.COMPLETED)
    types = await told(sdlc_reader)
    assert (types.count("stage.started"), types.count("stage.completed")) == (1, 1)
    assert (await sdlc_reader.requirement("REQ-1")).stages[0].state is StageState.COMPLETED


async def test_a_twin_that_goes_on_waiting_is_held_and_lets_go_as_well(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """Its activity was given up and made again, while it still waited for a permit."""
    ours, urgent = await held_again(sdlc_store)
    assert isinstance(await pass_again(ours), Hold)

    await urgent.close()
    assert await pass_again(ours) is None

    await ours.close_stage(RESEARCH)
    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.attempt, run.starts, run.state) == (1, 1, StageState.COMPLETED)


async def test_its_run_is_closed_if_the_requirement_ends_meanwhile(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, _ = await held_again(sdlc_store)

    await ours.close(RequirementState.CANCELLED)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.starts, run.state) == (0, StageState.FAILED)
    with pytest.raises(StaleAttempt):
        await pass_again(ours)


async def test_nothing_starts_for_a_requirement_that_has_ended(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await ours.open_stage(RESEARCH)
    await ours.close(RequirementState.CANCELLED)

    with pytest.raises((StaleAttempt, IllegalTransition)):
        await pass_again(ours)
