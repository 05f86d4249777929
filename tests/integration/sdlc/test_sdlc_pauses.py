"""Pauses on the real database: nothing slips through, and who is let go looks again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import RefusedInput, UnknownRequirement
from pipeline.model import (
    PRE_EMPTION,
    BuildRequest,
    DeliveryRequest,
    Head,
    Hold,
    OpeningRequest,
    Priority,
    RequirementState,
    StageContext,
)
from pipeline.pauses import ALL, PauseKind
from tests.integration.sdlc.test_sdlc_suspended_agents import apply_preemption, pre_empt
from tests.sdlc_factory import BACKEND, PLAN, RESEARCH, Requirement, accept, begin, begin_fix

DRAIN, PAUSE, SUSPEND = PauseKind


async def woken(store: PostgresSdlcStore) -> tuple[str, ...]:
    return (await store.to_notify()).workflow_ids


async def holders(requirement: Requirement) -> tuple[str, ...]:
    """Who holds its research; none if it is open by now."""
    hold = await requirement.try_stage(RESEARCH)
    return hold.by if isinstance(hold, Hold) else ()


def opening(requirement: Requirement) -> OpeningRequest:
    return OpeningRequest(requirement.ref, PLAN, False)


async def test_paused_requirement_starts_nothing_and_others_go_on(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = await begin(sdlc_store, "REQ-1"), await begin(sdlc_store, "REQ-2")
    fix = await begin_fix(ours)
    build = BuildRequest(ours.ref, "backend", BACKEND, "roy", Head("c1", 1), "1", True)
    await sdlc_store.pause("REQ-1", PAUSE, "ada")

    stage = await ours.try_stage(RESEARCH)
    repair = await fix.try_stage(BACKEND)
    built = await sdlc_store.open_build(build, "REQ-1")
    delivery = await sdlc_store.pass_delivery(
        DeliveryRequest(ours.ref, Head("c1", 1), "main", 1), "REQ-1", "here", is_verified=True
    )

    for hold in (stage, repair, built, delivery):
        assert isinstance(hold, Hold)
        assert hold.by == ("pause of REQ-1",)
        assert "It is paused, by ada since" in hold.reason
        assert hold.reason.endswith("UTC. It continues with: python starter.py unpause REQ-1")
    assert isinstance(await other.try_stage(RESEARCH), StageContext)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "pause of REQ-1")
    assert await woken(sdlc_store) == ()

    await sdlc_store.unpause("REQ-1", "bob")
    assert await woken(sdlc_store) == ("REQ-1", "REQ-1-FIX-1")
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)
    assert isinstance(await fix.try_stage(BACKEND), StageContext)
    assert await woken(sdlc_store) == ()


async def test_pause_of_all_holds_p0s_and_what_comes_later(sdlc_store: PostgresSdlcStore) -> None:
    await sdlc_store.pause(ALL, PAUSE, "ada")
    later = await accept(sdlc_store, "REQ-1")
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0)

    hold = await sdlc_store.pass_opening(opening(later), "REQ-1")

    assert hold
    assert hold.by == ("pause of all", "REQ-0")
    assert await holders(urgent) == ("pause of all",)
    await sdlc_store.unpause(ALL, "ada")
    assert await woken(sdlc_store) == ("REQ-0", "REQ-1")


async def test_drain_holds_openings_alone(sdlc_store: PostgresSdlcStore) -> None:
    ours, later = await begin(sdlc_store, "REQ-1"), await accept(sdlc_store, "REQ-2")
    await sdlc_store.pause(ALL, DRAIN, "ada")

    hold = await sdlc_store.pass_opening(opening(later), "REQ-2")
    assert hold
    assert hold.reason.startswith("Nothing new is taken, by ada since")
    assert await holders(ours) == ()
    await sdlc_store.unpause(ALL, "ada")
    assert await woken(sdlc_store) == ("REQ-2",)


async def test_no_opening_slips_through_beside_a_pause(sdlc_store: PostgresSdlcStore) -> None:
    for nth in range(5):
        crowd = [await begin(sdlc_store, f"REQ-{nth}-{each}") for each in range(20)]
        half = [asyncio.create_task(each.try_stage(RESEARCH)) for each in crowd[:10]]
        await sdlc_store.pause(ALL, PAUSE, "ada")
        beside = await asyncio.gather(*half)
        after = await asyncio.gather(*(each.try_stage(RESEARCH) for each in crowd[10:]))

        assert all(isinstance(outcome, Hold) for outcome in after)
        held = [r for r, o in zip(crowd, [*beside, *after], strict=True) if isinstance(o, Hold)]
        await sdlc_store.unpause(ALL, "ada")
        assert set(await woken(sdlc_store)) == {each.number for each in held}
        for each in held:
            assert isinstance(await each.try_stage(RESEARCH), StageContext)


@pytest.mark.parametrize("first", ["pause", "P0"])
@pytest.mark.parametrize("ends", ["pause", "P0"])
async def test_pause_and_p0_hold_until_both_are_over(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, first: str, ends: str
) -> None:
    """Whichever comes and goes first: who waits says what holds it now, and is let go at the end.

    Its workflow looks again only when it is notified.
    """
    ours = await begin(sdlc_store, "REQ-1")
    if first == "pause":
        await sdlc_store.pause("REQ-1", PAUSE, "ada")
        assert await holders(ours) == ("pause of REQ-1",)
        urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
    else:
        urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
        assert await holders(ours) == ("REQ-0",)
        await sdlc_store.pause("REQ-1", PAUSE, "ada")
        assert await woken(sdlc_store) == ("REQ-1",)
        assert await holders(ours) == ("pause of REQ-1", "REQ-0")
        assert await woken(sdlc_store) == ()

    async def end(what: str) -> None:
        await (sdlc_store.unpause("REQ-1", "ada") if what == "pause" else urgent.close())

    await end(ends)
    look_again = ends == "pause" or first == "P0"  # else its row tells of the pause alone
    assert await woken(sdlc_store) == (("REQ-1",) if look_again else ())
    left = ("REQ-0",) if ends == "pause" else ("pause of REQ-1",)
    assert await holders(ours) == left
    assert await woken(sdlc_store) == ()
    assert (await sdlc_reader.requirement("REQ-1")).waiting_for == left[0]
    await end("P0" if ends == "pause" else "pause")
    assert await woken(sdlc_store) == ("REQ-1",)
    assert await holders(ours) == ()


async def test_agents_are_suspended_for_pause_and_p0_until_both_are_over(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await ours.open_stage(RESEARCH)
    await sdlc_store.pause("REQ-1", PAUSE, "ada")
    assert await sdlc_store.to_pre_empt() == ()
    assert await apply_preemption(ours) is None

    await sdlc_store.pause("REQ-1", SUSPEND, "bob")
    assert await sdlc_store.to_pre_empt(missed=True) == ("REQ-1",)
    hold = await apply_preemption(ours)
    assert hold
    assert (hold.boundary, hold.by) == (PRE_EMPTION, ("pause of REQ-1",))
    assert hold.reason.startswith("It is paused, agents too, by ada since")
    assert await sdlc_store.to_pre_empt(missed=True) == ()

    urgent = await pre_empt(sdlc_store)
    await sdlc_store.unpause("REQ-1", "ada")
    assert await woken(sdlc_store) == ("REQ-1",)
    hold = await apply_preemption(ours)
    assert hold
    assert hold.by == ("REQ-0",)

    await sdlc_store.pause(ALL, SUSPEND, "ada")
    assert set(await sdlc_store.to_pre_empt()) == {"REQ-0", "REQ-1"}
    assert await woken(sdlc_store) == ("REQ-1",)
    await apply_preemption(ours)
    await urgent.close()
    assert await woken(sdlc_store) == ("REQ-1",)  # its row tells of the P0, too
    hold = await apply_preemption(ours)
    assert hold
    assert hold.by == ("pause of all",)
    await sdlc_store.unpause(ALL, "ada")
    assert await woken(sdlc_store) == ("REQ-1",)
    assert await apply_preemption(ours) is None


async def test_outage_that_meets_a_pause_is_recorded_before_it(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """The database is there again, and a human has paused it meanwhile."""
    ours = await begin(sdlc_store, "REQ-1")
    await sdlc_store.pause(ALL, PAUSE, "ada")
    since = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    outage = Hold(RESEARCH, ("NATS",), "NATS cannot be reached.", 0, since, "NATS")
    request = replace(ours.request(RESEARCH), held=outage)

    for _ in range(2):  # an activity may be repeated
        hold = await sdlc_store.open_stage(request, "REQ-1")
        assert isinstance(hold, Hold)
        assert hold.by == ("pause of all",)

    holds = await sdlc_reader.holds("REQ-1")
    assert [(each.held_by, each.ended_at is None) for each in holds] == [
        (("NATS",), False),
        (("pause of all",), True),
    ]
    await sdlc_store.unpause(ALL, "ada")
    assert await woken(sdlc_store) == ("REQ-1",)


async def test_what_a_p0_waits_for_is_paused_all_the_same(sdlc_store: PostgresSdlcStore) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await begin(sdlc_store, "REQ-0", Priority.P0, ("REQ-1",))
    await sdlc_store.pause("REQ-1", PAUSE, "ada")

    assert await holders(ours) == ("pause of REQ-1",)
    assert await woken(sdlc_store) == ()


async def test_one_in_line_to_deliver_lets_others_go_first(sdlc_store: PostgresSdlcStore) -> None:
    ours, other = await begin(sdlc_store, "REQ-1"), await begin(sdlc_store, "REQ-2")

    async def ask(requirement: Requirement) -> Hold | None:
        request = DeliveryRequest(requirement.ref, Head("c1", 1), "main", 1)
        return await sdlc_store.pass_delivery(
            request, requirement.number, "here", is_verified=False
        )

    assert await ask(ours) is None
    await sdlc_store.pause("REQ-1", PAUSE, "ada")
    hold = await ask(ours)
    assert hold
    assert hold.by == ("pause of REQ-1",)
    assert await ask(other) is None
    await other.close()
    await sdlc_store.unpause("REQ-1", "ada")
    assert await woken(sdlc_store) == ("REQ-1",)
    assert await ask(ours) is None


async def test_end_of_a_requirement_ends_its_pause(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await sdlc_store.pause("REQ-1", PAUSE, "ada")
    assert [pause.scope for pause in await sdlc_reader.pauses()] == ["REQ-1"]
    await ours.close(RequirementState.CANCELLED)

    assert await sdlc_reader.pauses() == ()


async def test_paused_requirement_takes_no_room_of_its_host(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    assert await sdlc_store.is_full("host-1", 1, "REQ-2")
    await sdlc_store.pause("REQ-1", PAUSE, "ada")
    await ours.try_stage(RESEARCH)

    assert not await sdlc_store.is_full("host-1", 1, "REQ-2")


async def test_pauses_that_make_no_sense_are_refused(sdlc_store: PostgresSdlcStore) -> None:
    ours, ended = await begin(sdlc_store, "REQ-1"), await begin(sdlc_store, "REQ-2")
    await begin_fix(ours)
    await ended.close()
    with pytest.raises(UnknownRequirement):
        await sdlc_store.pause("REQ-9", PAUSE, "ada")
    with pytest.raises(RefusedInput, match="REQ-1-FIX-1 is a fix of REQ-1"):
        await sdlc_store.pause("REQ-1-FIX-1", PAUSE, "ada")
    with pytest.raises(RefusedInput, match="REQ-2 has ended"):
        await sdlc_store.pause("REQ-2", PAUSE, "ada")
    with pytest.raises(RefusedInput, match=r"REQ-1 is not paused\."):
        await sdlc_store.unpause("REQ-1", "ada")
    with pytest.raises(RefusedInput, match=r"Nothing is paused\."):
        await sdlc_store.unpause(ALL, "ada")
    await sdlc_store.pause("REQ-1", PAUSE, "ada")
    with pytest.raises(RefusedInput, match=r"Not everything is paused, only: REQ-1\."):
        await sdlc_store.unpause(ALL, "ada")
    await sdlc_store.unpause("REQ-1", "ada")
    await sdlc_store.pause(ALL, PAUSE, "ada")
    with pytest.raises(RefusedInput, match=r"not paused by itself\. Everything is paused, by ada"):
        await sdlc_store.unpause("REQ-1", "ada")
    with pytest.raises(RefusedInput, match="What is under way cannot end: Everything is paused"):
        await sdlc_store.pause(ALL, DRAIN, "ada")
