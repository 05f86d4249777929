"""The P0 gate on the real database: nothing slips through, nobody waits for ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import RefusedInput, UnknownRequirement
from pipeline.model import (
    BuildRequest,
    DeliveryRequest,
    Head,
    Hold,
    Priority,
    RequirementState,
    RoundResults,
    StageContext,
    StageState,
)
from pipeline.plan_rules import DELIVER
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    RESEARCH,
    Requirement,
    a_failure,
    accept,
    an_order,
    begin,
)

CLOSED = (RequirementState.DELIVERED, RequirementState.FAILED, RequirementState.CANCELLED)


async def types(reader: SdlcReader, number: str) -> list[str]:
    return [event.type for event in await reader.events(number)]


async def test_open_p0_holds_the_next_stage_of_others(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await accept(sdlc_store, "REQ-0", Priority.P0)

    hold = await ours.try_stage(RESEARCH)

    assert isinstance(hold, Hold)
    assert (hold.by, hold.reason) == (("REQ-0",), "REQ-0 is open and P0.")
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "REQ-0")
    assert (view.stages[0].state, view.stages[0].attempt) == (StageState.HELD, 0)
    (held,) = view.holds
    assert (held.boundary, held.held_by, held.since) == (RESEARCH, ("REQ-0",), hold.since)
    assert (await types(sdlc_reader, "REQ-1"))[-1] == "workflow.held"
    assert await sdlc_reader.runs("REQ-1") == ()


@pytest.mark.parametrize("end", CLOSED)
async def test_end_of_the_last_p0_lets_everybody_go_on(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, end: RequirementState
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    first = await begin(sdlc_store, "REQ-0", Priority.P0)
    second = await begin(sdlc_store, "REQ-00", Priority.P0)
    hold = await ours.try_stage(RESEARCH)
    assert isinstance(hold, Hold)

    await first.close(end)
    assert (await sdlc_store.to_notify()).workflow_ids == ()
    await second.close(end)
    notification = await sdlc_store.to_notify()

    assert notification.workflow_ids == ("REQ-1",)
    assert notification.gate_version > hold.gate_version
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for, view.holds) == (RequirementState.RUNNING, "", ())
    assert (await types(sdlc_reader, "REQ-1"))[-2:] == ["workflow.resumed", "stage.started"]
    assert (await sdlc_store.to_notify()).workflow_ids == ()


async def test_requirement_held_at_two_boundaries_resumes_once(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await ours.run_up_to(RESEARCH, CRITIQUE)
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
    for _ in range(2):  # the slow timer's look changes nothing
        assert isinstance(await ours.try_stage(BACKEND), Hold)
        assert isinstance(await ours.try_stage(FRONTEND), Hold)
    await urgent.close()

    await asyncio.gather(ours.open_stage(BACKEND), ours.open_stage(FRONTEND))

    told = await types(sdlc_reader, "REQ-1")
    assert (told.count("workflow.held"), told.count("workflow.resumed")) == (2, 1)
    assert (await sdlc_reader.requirement("REQ-1")).state is RequirementState.RUNNING


async def test_p0s_never_hold_each_other(sdlc_store: PostgresSdlcStore) -> None:
    first = await begin(sdlc_store, "REQ-0", Priority.P0)
    second = await begin(sdlc_store, "REQ-00", Priority.P0)

    for requirement in (first, second):
        assert isinstance(await requirement.try_stage(RESEARCH), StageContext)


async def test_what_a_p0_waits_for_continues_transitively(sdlc_store: PostgresSdlcStore) -> None:
    far = await begin(sdlc_store, "REQ-1")
    near = await begin(sdlc_store, "REQ-2", blocked_by=("REQ-1",))
    other = await begin(sdlc_store, "REQ-3")
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0, ("REQ-2",))

    assert isinstance(await far.try_stage(RESEARCH), StageContext)
    assert isinstance(await other.try_stage(RESEARCH), Hold)
    by_far, by_near = await near.try_stage(RESEARCH), await urgent.try_stage(RESEARCH)
    assert isinstance(by_far, Hold)
    assert isinstance(by_near, Hold)
    assert (by_far.by, by_near.by) == (("REQ-1",), ("REQ-2",))

    await far.close()
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-2",)
    assert isinstance(await near.try_stage(RESEARCH), StageContext)


async def test_block_that_exempts_somebody_raises_the_gate_version(
    sdlc_store: PostgresSdlcStore,
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await begin(sdlc_store, "REQ-0", Priority.P0)
    hold = await ours.try_stage(RESEARCH)
    assert isinstance(hold, Hold)

    await sdlc_store.add_blocker("REQ-0", "REQ-1")

    notification = await sdlc_store.to_notify()
    assert (notification.workflow_ids, notification.gate_version > hold.gate_version) == (
        ("REQ-1",),
        True,
    )


async def test_blocker_that_was_not_delivered_holds_until_unblock(
    sdlc_store: PostgresSdlcStore,
) -> None:
    blocker = await begin(sdlc_store, "REQ-1")
    ours = await begin(sdlc_store, "REQ-2", blocked_by=("REQ-1",))
    assert isinstance(await ours.try_stage(RESEARCH), Hold)
    await blocker.close(RequirementState.CANCELLED)
    assert isinstance(await ours.try_stage(RESEARCH), Hold)

    await sdlc_store.remove_blocker("REQ-2", "REQ-1")

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-2",)
    assert isinstance(await ours.try_stage(RESEARCH), StageContext)


@pytest.mark.parametrize(
    ("number", "by", "reason"),
    [
        ("REQ-1", "REQ-1", "REQ-1 cannot wait for itself"),
        ("REQ-1", "REQ-3", "REQ-3 waits for REQ-1"),
        ("REQ-1", "REQ-9", "There is no requirement REQ-9"),
        ("REQ-1", "REQ-4", "REQ-4 has ended"),
        ("REQ-4", "REQ-1", "REQ-4 has ended"),
    ],
)
async def test_blocker_that_makes_no_sense_is_refused(
    sdlc_store: PostgresSdlcStore, number: str, by: str, reason: str
) -> None:
    await begin(sdlc_store, "REQ-1")
    await begin(sdlc_store, "REQ-2", blocked_by=("REQ-1",))
    await begin(sdlc_store, "REQ-3", blocked_by=("REQ-2",))
    await (await begin(sdlc_store, "REQ-4")).close()

    with pytest.raises(RefusedInput, match=reason):
        await sdlc_store.add_blocker(number, by)


async def test_unknown_requirement_cannot_be_blocked(sdlc_store: PostgresSdlcStore) -> None:
    with pytest.raises(UnknownRequirement):
        await sdlc_store.add_blocker("REQ-9", "REQ-8")


async def test_blocker_that_is_none_cannot_be_removed(sdlc_store: PostgresSdlcStore) -> None:
    await accept(sdlc_store, "REQ-1")
    with pytest.raises(RefusedInput, match="REQ-1 is not blocked by REQ-2"):
        await sdlc_store.remove_blocker("REQ-1", "REQ-2")
    with pytest.raises(UnknownRequirement, match="There is no requirement REQ-9"):
        await sdlc_store.remove_blocker("REQ-9", "REQ-1")


async def test_batch_whose_requirements_wait_for_each_other_is_refused(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    pair = [
        Acceptance(an_order("REQ-1"), "", blocked_by=("REQ-2",)),
        Acceptance(an_order("REQ-2"), "", blocked_by=("REQ-1",)),
    ]
    with pytest.raises(RefusedInput, match="wait for ever"):
        await sdlc_store.accept_all(pair)
    assert await sdlc_reader.requirements() == ()


async def test_two_blocks_at_once_never_close_a_circle(sdlc_store: PostgresSdlcStore) -> None:
    for nth in range(10):
        one, two = f"REQ-{nth}a", f"REQ-{nth}b"
        await begin(sdlc_store, one)
        await begin(sdlc_store, two)
        outcomes = await asyncio.gather(
            sdlc_store.add_blocker(one, two),
            sdlc_store.add_blocker(two, one),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            "RefusedInput",
        ]


async def test_no_opening_slips_through_beside_a_p0(sdlc_store: PostgresSdlcStore) -> None:
    """What comes after the P0's acceptance is held, whatever raced with it; all are woken."""
    for nth in range(10):
        crowd = [await begin(sdlc_store, f"REQ-{nth}-{each}") for each in range(20)]
        half = [asyncio.create_task(each.try_stage(RESEARCH)) for each in crowd[:10]]
        urgent = await accept(sdlc_store, f"REQ-P0-{nth}", Priority.P0)
        beside = await asyncio.gather(*half)
        after = await asyncio.gather(*(each.try_stage(RESEARCH) for each in crowd[10:]))

        assert all(isinstance(outcome, Hold) for outcome in after)
        held = [r for r, o in zip(crowd, [*beside, *after], strict=True) if isinstance(o, Hold)]
        await urgent.open()
        await urgent.close()
        await check_woken(sdlc_store, held)


async def check_woken(store: PostgresSdlcStore, held: Sequence[Requirement]) -> None:
    """All of them, and nobody else."""
    assert set((await store.to_notify()).workflow_ids) == {each.number for each in held}
    for each in held:
        assert isinstance(await each.try_stage(RESEARCH), StageContext)


async def test_workflows_that_wait_at_one_boundary_are_all_woken(
    sdlc_store: PostgresSdlcStore,
) -> None:
    """A requirement that a human set going, and its round of fixes, may need the same build."""
    ours = await begin(sdlc_store, "REQ-1")
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
    build = BuildRequest(ours.ref, "backend", BACKEND, "roy", Head("c1", 1), "1", True)
    for subscriber in ("REQ-1", "REQ-1/round-1"):
        assert isinstance(await sdlc_store.open_build(build, subscriber), Hold)

    await urgent.close()

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1", "REQ-1/round-1")


@pytest.mark.parametrize("turned", ["blocked", "skipped"])
async def test_stage_that_is_held_may_turn_out_blocked_or_not_needed(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, turned: str
) -> None:
    """What it builds on has changed while it was held."""
    ours = await begin(sdlc_store, "REQ-1")
    urgent = await begin(sdlc_store, "REQ-0", Priority.P0)
    await ours.try_stage(RESEARCH)
    await urgent.close()

    if turned == "skipped":
        await ours.skip(RESEARCH)
    else:
        await ours.block(a_failure(BACKEND, "build backend"), blocked=(RESEARCH,))

    view = await sdlc_reader.requirement("REQ-1")
    assert view.stages[0].state == turned
    assert f"stage.{turned}" in await types(sdlc_reader, "REQ-1")


async def test_results_of_a_round_leaves_it_to_be_seen_who_holds_it(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    await begin(sdlc_store, "REQ-0", Priority.P0)
    await ours.try_stage(RESEARCH)

    await sdlc_store.apply_results(RoundResults(ours.ref, 1, 7, (), (), (), ""))

    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "REQ-0")


async def test_list_tells_who_holds_the_repair_of_a_blocked_requirement(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await begin(sdlc_store, "REQ-1")
    failure = await ours.fail(RESEARCH)
    await ours.block(failure, asked=False)
    await begin(sdlc_store, "REQ-0", Priority.P0)
    assert isinstance(await ours.try_stage(RESEARCH, 2), Hold)

    _, listed = await sdlc_reader.requirements()

    assert (listed.state, listed.held_by) == (RequirementState.BLOCKED, ("REQ-0",))


@pytest.mark.parametrize("boundary", ["stage", "build", "delivery"])
async def test_outage_that_meets_an_open_p0_at_one_boundary_writes_both_holds(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, boundary: str
) -> None:
    """The database is there again, and a P0 was opened meanwhile: one transaction tells of both."""
    ours = await begin(sdlc_store, "REQ-1")
    await begin(sdlc_store, "REQ-0", Priority.P0)
    since = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    outage = Hold("x", ("NATS",), "NATS cannot be reached.", 0, since, "NATS")

    for _ in range(2):  # an activity may be repeated
        hold: object
        if boundary == "stage":
            request = replace(ours.request(RESEARCH), held=replace(outage, boundary=RESEARCH))
            hold = await sdlc_store.open_stage(request, "REQ-1")
        elif boundary == "build":
            build = BuildRequest(ours.ref, "backend", BACKEND, "roy", Head("c1", 1), "1", True)
            held = replace(outage, boundary="build backend")
            hold = await sdlc_store.open_build(replace(build, held=held), "REQ-1")
        else:
            delivery = DeliveryRequest(ours.ref, Head("c1", 1), "main", 1)
            held = replace(outage, boundary=DELIVER)
            hold = await sdlc_store.pass_delivery(
                replace(delivery, held=held), "REQ-1", "here", is_verified=True
            )
        assert isinstance(hold, Hold)
        assert hold.by == ("REQ-0",)

    holds = await sdlc_reader.holds("REQ-1")
    assert [(each.held_by, each.ended_at is None) for each in holds] == [
        (("NATS",), False),
        (("REQ-0",), True),
    ]
    told = await types(sdlc_reader, "REQ-1")
    assert (told.count("workflow.held"), told.count("workflow.resumed")) == (2, 1)
    assert (await sdlc_reader.requirement("REQ-1")).state is RequirementState.HELD
