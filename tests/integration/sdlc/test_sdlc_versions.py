"""By what a follower tells that a requirement has changed."""

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from tests.sdlc_factory import BACKEND, RESEARCH, Requirement, a_failure, begin, begin_fix


async def test_a_version_differs_whenever_the_requirement_its_fixes_or_retries_change(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await begin(sdlc_store, "REQ-2")

    async def version() -> object:
        return (await sdlc_reader.versions(["REQ-1"]))["REQ-1"]

    seen = [await version()]
    assert await version() == seen[0]
    await requirement.run(RESEARCH)
    seen.append(await version())
    await requirement.open_build()
    seen.append(await version())
    await requirement.block(a_failure(BACKEND, "build backend"), asked=False)
    fix = await begin_fix(requirement)
    seen.append(await version())
    await fix.close()
    seen.append(await version())

    assert len(set(seen)) == len(seen)
    assert await sdlc_reader.under_way() == ("REQ-1", "REQ-2")
    await Requirement(sdlc_store, "REQ-2").close()
    assert await version() == seen[-1]
    assert await sdlc_reader.under_way() == ("REQ-1",)
