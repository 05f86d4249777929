"""Builds that are under way: told of once, and shown until they have ended."""

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import BuildView
from pipeline.model import FailureKind, Hold, Priority, RequirementState
from tests.sdlc_factory import BACKEND, RESEARCH, Requirement, a_failure, begin


async def building(reader: SdlcReader) -> tuple[BuildView, ...]:
    """As the status shows them, and every line of a list."""
    shown = (await reader.requirement("REQ-1")).building
    (listed,) = [each for each in await reader.requirements() if each.number == "REQ-1"]
    assert shown == listed.building
    return shown


async def test_a_build_is_shown_from_its_start_to_its_end(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    assert await requirement.open_build() is None
    (first,) = await building(sdlc_reader)
    assert await requirement.open_build() is None  # its worker was killed

    (build,) = await building(sdlc_reader)
    assert (build.build, build.stage, build.agent, build.commit) == (
        "backend", BACKEND, "roy", "c1",
    )  # fmt: skip
    assert build.started_at == first.started_at

    await requirement.build(passed=True)

    assert await building(sdlc_reader) == ()
    assert await requirement.open_build() is not None
    told = [e for e in await sdlc_reader.events("REQ-1") if e.type.startswith("build.")]
    assert [e.type for e in told] == ["build.started", "build.passed"]
    assert {"build": "backend", "agent": "roy", "clean": True}.items() <= told[0].payload.items()


async def test_one_that_is_held_has_not_started(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    assert await requirement.open_build(1) is None
    await begin(sdlc_store, "REQ-0", Priority.P0)

    assert isinstance(await requirement.open_build(1), Hold)  # again, after an outage
    assert isinstance(await requirement.open_build(2), Hold)

    assert await building(sdlc_reader) == ()
    told = [e.type for e in await sdlc_reader.events("REQ-1")]
    assert told.count("build.started") == 1


async def test_one_that_was_lost_is_over_once_its_failure_is_reported(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)
    await requirement.open_build(1)
    lost = a_failure(BACKEND, "build backend", kind=FailureKind.INFRASTRUCTURE)
    await requirement.block(lost)
    assert await building(sdlc_reader) == ()

    await requirement.reopen(BACKEND)
    await requirement.open_build(2)

    assert len(await building(sdlc_reader)) == 1


async def test_an_ended_requirement_builds_nothing(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_build()
    await requirement.close(RequirementState.CANCELLED)

    assert await building(sdlc_reader) == ()
