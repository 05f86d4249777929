"""The line of those that deliver to one branch: who has the turn, who is next, who sees where."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import IllegalTransition
from pipeline.model import DeliveryRequest, Head, Hold, Priority, RequirementState
from tests.eventually import PATIENCE_SECONDS
from tests.sdlc_factory import Requirement, begin

HERE = "node:/srv/project"


async def asks(
    each: Requirement, *, repository: str = HERE, target: str = "main", commit: str = ""
) -> Hold | None:
    """Ask for the turn, or deliver that commit with it."""
    head = Head(commit or "c1", 1)
    request = DeliveryRequest(each.ref, head, target, 1)
    is_verified = bool(commit)
    return await each.store.pass_delivery(request, each.number, repository, is_verified=is_verified)


async def turns(store: PostgresSdlcStore) -> tuple[str, ...]:
    return (await store.to_notify()).turns


async def crowd(
    store: PostgresSdlcStore, *priorities: Priority, first: int = 1
) -> Sequence[Requirement]:
    numbered = enumerate(priorities, first)
    return [await begin(store, f"REQ-{nth}", priority) for nth, priority in numbered]


async def place(reader: SdlcReader, each: Requirement) -> tuple[int, str, str] | None:
    turn = (await reader.requirement(each.number)).turn
    return (turn.place, turn.behind, turn.delivering) if turn else None


async def test_one_at_a_time_by_priority_then_arrival(sdlc_store: PostgresSdlcStore) -> None:
    low, first, second, high = await crowd(
        sdlc_store, Priority.P3, Priority.P2, Priority.P2, Priority.P1
    )
    assert await asks(low) is None
    for each in (second, first, high):
        assert await asks(each)
    assert await turns(sdlc_store) == ()

    served = [low]
    for _ in range(3):
        await served[-1].close()
        (number,) = await turns(sdlc_store)
        served.append(next(each for each in (first, second, high) if each.number == number))
        assert await asks(served[-1]) is None

    assert served == [low, high, second, first]


async def test_who_is_not_next_does_not_take_a_free_turn(sdlc_store: PostgresSdlcStore) -> None:
    first, second, third = await crowd(sdlc_store, *[Priority.P2] * 3)
    for each in (first, second, third):
        await asks(each)
    await first.close()

    hold = await asks(third)

    assert hold
    assert hold.by == (second.number,)
    assert await turns(sdlc_store) == (second.number,)


async def test_other_branches_and_repositories_have_lines_of_their_own(
    sdlc_store: PostgresSdlcStore,
) -> None:
    one, other, elsewhere = await crowd(sdlc_store, *[Priority.P2] * 3)

    assert await asks(one) is None
    assert await asks(other, target="release") is None
    assert await asks(elsewhere, repository="node:/srv/other") is None


async def test_turn_is_kept_by_who_asks_again(sdlc_store: PostgresSdlcStore) -> None:
    first, second = await crowd(sdlc_store, Priority.P2, Priority.P1)
    await asks(first)
    await asks(second)

    assert await asks(first) is None
    assert await asks(first, commit="c1") is None


async def test_p0_takes_the_turn_from_whoever_is_less_urgent(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours, waiting = await crowd(sdlc_store, Priority.P1, Priority.P1)
    await asks(ours)
    await asks(waiting)
    (urgent,) = await crowd(sdlc_store, Priority.P0, first=3)

    assert await asks(urgent) is None
    hold = await asks(ours, commit="c1")
    assert hold
    assert hold.by == (urgent.number,)
    assert await turns(sdlc_store) == ()

    await urgent.close()
    assert await turns(sdlc_store) == (waiting.number,)
    assert set((await sdlc_store.to_notify()).workflow_ids) == {ours.number}
    assert await asks(ours) is None  # it has kept its place, before who came after it


async def test_p0_does_not_take_the_turn_from_another_one(sdlc_store: PostgresSdlcStore) -> None:
    first, second = await crowd(sdlc_store, Priority.P0, Priority.P0)

    assert await asks(first) is None
    hold = await asks(second)
    assert hold
    assert hold.by == (first.number,)


async def test_what_a_p0_waits_for_passes_those_that_it_holds(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours, waiting, blocker = await crowd(sdlc_store, Priority.P1, Priority.P1, Priority.P4)
    await asks(ours)
    await asks(waiting)
    await begin(sdlc_store, "REQ-9", Priority.P0, (blocker.number,))

    assert await asks(blocker) is None
    await blocker.close()
    assert await turns(sdlc_store) == ()  # all that is left is held


async def test_who_is_held_at_a_build_lets_others_deliver(sdlc_store: PostgresSdlcStore) -> None:
    ours, other = await crowd(sdlc_store, Priority.P2, Priority.P2)
    blocker = await begin(sdlc_store, "REQ-9")
    await asks(ours)
    await asks(other)
    await sdlc_store.add_blocker(ours.number, blocker.number)

    assert await asks(ours, commit="c1")
    assert await turns(sdlc_store) == (other.number,)


@pytest.mark.parametrize("end", [state for state in RequirementState if state.is_final])
async def test_turn_goes_with_the_row(sdlc_store: PostgresSdlcStore, end: RequirementState) -> None:
    """However it ends, and whoever writes it: a workflow that was terminated writes nothing."""
    ours, other = await crowd(sdlc_store, Priority.P2, Priority.P2)
    await asks(ours)
    await asks(other)

    await ours.close(end)

    assert await turns(sdlc_store) == (other.number,)
    with pytest.raises(IllegalTransition):
        await asks(ours)


async def test_place_is_lost_by_who_leaves_and_kept_by_who_has_to_wait(
    sdlc_store: PostgresSdlcStore,
) -> None:
    blocked, waits, third = await crowd(sdlc_store, *[Priority.P2] * 3)
    for each in (blocked, waits, third):
        await asks(each)
    assert await sdlc_store.leave_line(waits.number, keeps_place=True)
    assert await sdlc_store.leave_line(blocked.number, keeps_place=False)
    assert not await sdlc_store.leave_line(blocked.number, keeps_place=False)

    await asks(blocked)
    assert await asks(waits) is None
    await waits.close()

    assert await turns(sdlc_store) == (third.number,)


async def test_a_commit_that_was_to_be_delivered_is_known_as_ours(
    sdlc_store: PostgresSdlcStore,
) -> None:
    (ours,) = await crowd(sdlc_store, Priority.P2)
    await asks(ours)
    assert not await sdlc_store.is_delivery("c1")

    await asks(ours, commit="c1")
    assert await sdlc_store.is_delivery("c1")


async def test_place_is_shown_as_it_is_now(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    first, second, third = await crowd(sdlc_store, *[Priority.P2] * 3)
    for each in (first, second, third):
        await asks(each)

    assert await place(sdlc_reader, first) is None
    assert await place(sdlc_reader, third) == (3, second.number, first.number)
    view = await sdlc_reader.requirement(third.number)
    (hold,) = view.holds
    assert (view.state, view.waiting_for) == (RequirementState.HELD, second.number)
    assert (
        view.reason
        == hold.reason
        == (
            "It waits for its turn to deliver to main: "
            "3rd in line, behind REQ-2; REQ-1 is delivering."
        )
    )
    await first.close()
    await asks(second)
    assert await place(sdlc_reader, third) == (2, second.number, second.number)
    (listed,) = [
        each for each in await sdlc_reader.requirements(waiting=True) if each.number == third.number
    ]
    assert listed.turn
    assert listed.held_by == (second.number,)
    assert listed.reason.endswith("2nd in line, behind REQ-2, which is delivering.")


async def test_it_is_said_once_that_a_requirement_waits_and_goes_on(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    first, second = await crowd(sdlc_store, Priority.P2, Priority.P2)
    for each in (first, second, second, second):
        await asks(each)
    await first.close()
    for _ in range(2):
        assert await asks(second) is None

    told = [event.type for event in await sdlc_reader.events(second.number)]
    assert told.count("workflow.held") == told.count("workflow.resumed") == 1
    view = await sdlc_reader.requirement(second.number)
    assert (view.state, view.holds, view.turn) == (RequirementState.RUNNING, (), None)


async def test_nobody_is_forgotten_and_nobody_delivers_beside_another(
    sdlc_store: PostgresSdlcStore,
) -> None:
    """Each waits for its notification alone: one that is lost would leave it waiting for ever."""
    everybody = await crowd(sdlc_store, *[Priority.P2] * 25)
    woken = {each.number: asyncio.Event() for each in everybody}
    delivering: list[str] = []
    most = 0

    async def notify() -> None:
        for number in await turns(sdlc_store):
            woken[number].set()

    async def deliver(each: Requirement) -> None:
        nonlocal most
        while await asks(each):
            await notify()
            await woken[each.number].wait()
            woken[each.number].clear()
        delivering.append(each.number)
        most = max(most, len(delivering))
        await asyncio.sleep(0)
        assert await asks(each, commit=each.number) is None
        delivering.remove(each.number)
        await each.close()
        await notify()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*map(deliver, everybody))
    assert most == 1
    assert replace(await sdlc_store.to_notify(), gate_version=0).turns == ()
