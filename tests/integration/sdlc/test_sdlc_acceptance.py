import asyncio

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import AlreadyStarted, IllegalTransition, UnknownRequirement
from pipeline.model import Head, Mode, Opening, OpeningRequest, RequirementRef, RequirementState
from tests.sdlc_factory import PLAN, RESEARCH, Requirement, an_order


async def test_row_holds_the_whole_input(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    order = an_order("REQ-Ab-1", "Tïtle")

    assert await sdlc_store.accept(order, "Some\ntext")

    assert await sdlc_reader.order("REQ-Ab-1") == order
    assert await sdlc_store.description("REQ-Ab-1") == "Some\ntext"


async def test_accepted_requirement_has_every_stage_waiting(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(sdlc_store).accept()

    view = await sdlc_reader.requirement("REQ-1")

    assert view.state is RequirementState.ACCEPTED
    assert [stage.stage for stage in view.stages] == [stage.name for stage in PLAN.stages]
    assert {stage.state for stage in view.stages} == {"waiting"}
    assert [phase.target for phase in await sdlc_reader.phases("REQ-1")] == ["ACCEPTED"]


async def test_start_that_got_no_further_than_its_row_may_be_completed(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = Requirement(sdlc_store)

    assert await requirement.accept()
    assert not await requirement.accept()

    assert len(await sdlc_reader.phases("REQ-1")) == 1


async def test_number_is_used_once(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()

    with pytest.raises(AlreadyStarted, match="REQ-1 is already RUNNING"):
        await requirement.accept()


async def test_number_that_differs_only_in_case_is_refused(sdlc_store: PostgresSdlcStore) -> None:
    await sdlc_store.accept(an_order("REQ-abc"), "")

    with pytest.raises(AlreadyStarted, match="REQ-abc differs only in case"):
        await sdlc_store.accept(an_order("REQ-ABC"), "")


async def test_batch_is_accepted_whole_or_not_at_all(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(sdlc_store, "REQ-2").begun()
    batch = [Acceptance(an_order(f"REQ-{n}"), "") for n in (1, 2, 3)]

    with pytest.raises(AlreadyStarted):
        await sdlc_store.accept_all(batch)
    assert await sdlc_reader.states(["REQ-1", "REQ-2", "REQ-3"]) == {"REQ-2": "RUNNING"}

    assert await sdlc_store.accept_all([batch[0], batch[2]]) == ("REQ-1", "REQ-3")


async def test_empty_batch_is_accepted(sdlc_store: PostgresSdlcStore) -> None:
    assert await sdlc_store.accept_all([]) == ()


async def test_batch_with_two_spellings_of_one_number_is_refused(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    twins = [Acceptance(an_order("REQ-a"), ""), Acceptance(an_order("REQ-A"), "")]

    with pytest.raises(AlreadyStarted, match="REQ-A and REQ-a"):
        await sdlc_store.accept_all(twins)

    assert await sdlc_reader.requirements() == ()


async def test_of_two_acceptances_at_once_one_is_new(sdlc_store: PostgresSdlcStore) -> None:
    accepted = await asyncio.gather(*(Requirement(sdlc_store).accept() for _ in range(5)))

    assert sorted(accepted) == [False] * 4 + [True]


async def test_parent_must_exist(sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader) -> None:
    with pytest.raises(UnknownRequirement, match="REQ-0"):
        await sdlc_store.accept(an_order("REQ-2"), "", parent="REQ-0")

    await sdlc_store.accept(an_order("REQ-1"), "")
    await sdlc_store.accept(an_order("REQ-2"), "", parent="REQ-1")
    assert (await sdlc_reader.requirement("REQ-2")).parent == "REQ-1"


async def test_opening_names_host_and_base(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(sdlc_store).begun()

    view = await sdlc_reader.requirement("REQ-1")

    assert (view.state, view.host, view.workflow_run) == ("RUNNING", "host-1", "wf-1")
    assert (view.base_commit, view.head_commit, view.target_branch) == ("base", "base", "main")
    assert view.mode is Mode.PARALLEL


async def test_switched_off_worker_opens_sequentially(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = Requirement(sdlc_store)
    await requirement.accept()
    await requirement.open(parallel=False)
    assert (await sdlc_reader.requirement("REQ-1")).mode is Mode.SEQUENTIAL

    await requirement.run(RESEARCH)
    assert (await sdlc_reader.requirement("REQ-1")).mode is Mode.PARALLEL


async def test_another_execution_cannot_open(sdlc_store: PostgresSdlcStore) -> None:
    await Requirement(sdlc_store).begun()
    request = OpeningRequest(RequirementRef("REQ-1", "wf-2"), PLAN, False)

    with pytest.raises(AlreadyStarted, match="wf-1"):
        await sdlc_store.open_requirement(request, Opening("h", Head("b", 0), "main", True))


async def test_host_counts_what_it_runs(sdlc_store: PostgresSdlcStore) -> None:
    for number in ("REQ-1", "REQ-2", "REQ-3"):
        await Requirement(sdlc_store, number).begun()
    await Requirement(sdlc_store, "REQ-3").close()

    assert await sdlc_store.is_full("host-1", 1, number="REQ-1")
    assert not await sdlc_store.is_full("host-1", 2, number="REQ-1")
    assert not await sdlc_store.is_full("host-2", 1, number="REQ-1")


async def test_unknown_requirement_is_named(sdlc_store: PostgresSdlcStore) -> None:
    requirement = Requirement(sdlc_store, "REQ-404")

    for step in (requirement.open(), requirement.open_stage(RESEARCH), requirement.close()):
        with pytest.raises(UnknownRequirement, match="REQ-404"):
            await step


async def test_nothing_starts_before_the_opening_and_after_the_end(
    sdlc_store: PostgresSdlcStore,
) -> None:
    requirement = Requirement(sdlc_store)
    await requirement.accept()
    with pytest.raises(IllegalTransition, match="ACCEPTED"):
        await requirement.open_stage(RESEARCH)

    await requirement.open()
    await requirement.close()
    with pytest.raises(IllegalTransition, match="DELIVERED"):
        await requirement.open_stage(RESEARCH)
    with pytest.raises(IllegalTransition):
        await requirement.close(RequirementState.FAILED)
