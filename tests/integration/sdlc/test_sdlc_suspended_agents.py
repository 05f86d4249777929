"""Rows of agents that are suspended for a P0: they begin, end and are woken with those agents."""

from dataclasses import replace

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import IllegalTransition
from pipeline.model import (
    PRE_EMPTION,
    BuildRequest,
    DeliveryRequest,
    Head,
    Hold,
    Priority,
    RequirementState,
    StageContext,
)
from tests.sdlc_factory import BACKEND, RESEARCH, Requirement, a_failure, an_order


async def pre_empt(store: PostgresSdlcStore, number: str = "REQ-0") -> Requirement:
    order = replace(an_order(number), priority=Priority.P0, pre_empts=True)
    await store.accept_all([Acceptance(order, "It burns.")])
    requirement = Requirement(store, number)
    await requirement.open()
    return requirement


async def standing(store: PostgresSdlcStore) -> Requirement:
    """Its agent runs, and is suspended."""
    ours = await Requirement(store).begun()
    await ours.open_stage(RESEARCH)
    await pre_empt(store)
    assert await apply_preemption(ours)
    return ours


async def apply_preemption(requirement: Requirement) -> Hold | None:
    return await requirement.store.apply_preemption(requirement.ref, requirement.number)


async def open_boundaries(reader: SdlcReader) -> list[str]:
    return [hold.boundary for hold in (await reader.requirement("REQ-1")).holds]


@pytest.mark.parametrize("end", [RequirementState.DELIVERED, RequirementState.CANCELLED])
async def test_requirement_that_has_just_ended_is_suspended_for_nobody(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, end: RequirementState
) -> None:
    """It was told while it ended: a hold that it left would stay open for ever."""
    ours = await Requirement(sdlc_store).begun()
    await pre_empt(sdlc_store)
    assert await sdlc_store.to_pre_empt() == ("REQ-1",)
    await ours.close(end)

    assert await apply_preemption(ours) is None

    assert await open_boundaries(sdlc_reader) == []
    assert "workflow.held" not in [event.type for event in await sdlc_reader.events("REQ-1")]


async def test_nothing_of_an_ended_requirement_passes_the_gate(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """Its workflow was terminated and its row closed; an activity of it still continues."""
    ours = await Requirement(sdlc_store).begun()
    await pre_empt(sdlc_store)
    await ours.close(RequirementState.CANCELLED)

    delivery = DeliveryRequest(ours.ref, Head("c1", 1), "main", 1, ())
    with pytest.raises(IllegalTransition, match="REQ-1 is CANCELLED: deliver cannot begin"):
        await sdlc_store.pass_delivery(delivery, "REQ-1", "here", is_verified=True)
    build = BuildRequest(ours.ref, "backend", BACKEND, "roy", Head("c1", 1), "1", True)
    with pytest.raises(IllegalTransition, match="build backend cannot begin"):
        await sdlc_store.open_build(build, "REQ-1")
    assert await open_boundaries(sdlc_reader) == []


async def test_agents_of_a_requirement_that_waits_for_another_one_are_woken(
    sdlc_store: PostgresSdlcStore,
) -> None:
    """It must not start anything, but what runs may continue."""
    ours = await standing(sdlc_store)
    await Requirement(sdlc_store, "REQ-2").begun()
    await sdlc_store.add_blocker("REQ-1", "REQ-2")

    await Requirement(sdlc_store, "REQ-0").close()

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert await apply_preemption(ours) is None
    assert (await sdlc_store.to_notify()).workflow_ids == ()


async def test_agents_of_a_requirement_that_was_blocked_meanwhile_are_woken(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """The order to suspend also holds for whoever repairs it: it must be lifted in time."""
    ours = await standing(sdlc_store)
    failure = a_failure(RESEARCH, f"run {RESEARCH}", owners=("cynthia",))
    await ours.block(failure)
    assert await open_boundaries(sdlc_reader) == [PRE_EMPTION]

    await Requirement(sdlc_store, "REQ-0").close()

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert await apply_preemption(ours) is None
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.holds) == (RequirementState.BLOCKED, ())


async def test_stage_that_passes_the_gate_first_leaves_the_agents_to_be_woken(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await standing(sdlc_store)
    assert isinstance(await ours.try_stage(RESEARCH, 2), Hold)
    await Requirement(sdlc_store, "REQ-0").close()

    assert isinstance(await ours.try_stage(RESEARCH, 2), StageContext)

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert await apply_preemption(ours) is None
    told = [event.type for event in await sdlc_reader.events("REQ-1")]
    assert (told.count("workflow.held"), told.count("workflow.resumed")) == (2, 1)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.holds) == (RequirementState.RUNNING, ())


async def test_hold_of_a_repair_ends_although_an_answer_has_set_the_rest_going(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await Requirement(sdlc_store).begun()
    await ours.fail(RESEARCH)
    await ours.block(a_failure(RESEARCH, f"run {RESEARCH}", owners=("cynthia",)))
    urgent = await pre_empt(sdlc_store)
    build = BuildRequest(ours.ref, "backend", BACKEND, "roy", Head("c1", 1), "1", True)
    assert isinstance(await sdlc_store.open_build(build, "REQ-1/round-1"), Hold)
    await ours.reopen(RESEARCH)
    await urgent.close()

    assert await sdlc_store.open_build(build, "REQ-1/round-1") is None

    assert await open_boundaries(sdlc_reader) == []


async def test_nobody_is_said_to_be_suspended_where_no_agent_runs(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """It waits for a human, say: that it does so for a P0 would be wrong, and be counted."""
    ours = await Requirement(sdlc_store).begun()
    await ours.run(RESEARCH)
    await pre_empt(sdlc_store)

    assert await apply_preemption(ours) is None
    assert await open_boundaries(sdlc_reader) == []
