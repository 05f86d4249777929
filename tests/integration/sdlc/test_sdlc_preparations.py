"""When the clone of a run was prepared."""

from dataclasses import replace
from datetime import timedelta

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import ListedRequirement, StageView
from pipeline.model import BuildResult, Preparation, RunEnd, StageState
from tests.sdlc_factory import RESEARCH, Requirement


async def stage_of(reader: SdlcReader) -> StageView:
    return (await reader.requirement("REQ-1")).stages[0]


async def listed(reader: SdlcReader) -> ListedRequirement:
    (found,) = await reader.requirements()
    return found


async def events(reader: SdlcReader) -> list[tuple[str, object]]:
    found = await reader.events("REQ-1")
    return [(e.type, e.payload.get("passed")) for e in found if e.type.startswith("stage.prepar")]


async def test_a_preparation_is_shown_while_it_lasts_and_told_once(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    request = requirement.request(RESEARCH)
    assert not (await stage_of(sdlc_reader)).is_preparing

    await sdlc_store.start_preparing(request, ["backend"])
    cut_off = await stage_of(sdlc_reader)
    await sdlc_store.start_preparing(request, ["backend", "frontend"])

    lasting = await stage_of(sdlc_reader)
    assert lasting.is_preparing
    assert [each.stage for each in (await listed(sdlc_reader)).preparing] == [RESEARCH]
    assert lasting.prepared == ("backend", "frontend")
    assert cut_off.prepare_started_at
    assert lasting.prepare_started_at
    assert lasting.prepare_started_at > cut_off.prepare_started_at
    ended = lasting.prepare_started_at + timedelta(seconds=12)
    red = BuildResult(RunEnd.EXITED, 1, "", ended, ended, "log")
    for _ in range(2):
        await sdlc_store.end_preparing(request, Preparation("frontend", red))
    await sdlc_store.start_preparing(request, ["backend"])  # found done by the next worker
    await sdlc_store.end_preparing(request, None)

    done = await stage_of(sdlc_reader)
    assert not done.is_preparing
    assert (await listed(sdlc_reader)).preparing == ()
    assert (done.prepared, done.prepare_ended_at) == (("backend", "frontend"), ended)
    assert await events(sdlc_reader) == [("stage.preparing", None), ("stage.prepared", False)]


async def test_nothing_is_said_of_a_run_that_is_not_open(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)
    late = replace(requirement.request(RESEARCH), attempt=2)

    for request in (requirement.request(RESEARCH), late):
        await sdlc_store.start_preparing(request, ["backend"])
        await sdlc_store.end_preparing(request, None)

    stage = await stage_of(sdlc_reader)
    assert (stage.state, stage.prepared) == (StageState.COMPLETED, ())
    assert await events(sdlc_reader) == []
