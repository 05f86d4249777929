"""Two builds of the worker, both up: what runs stays on its own, what starts takes the new one."""

import pytest

from adapters.temporal.deployment import Build, builds, make_current, take_up
from pipeline.errors import RefusedInput
from tests.eventually import eventually
from tests.fakes import Script
from tests.house import House, delivered, until
from workflows import continuing

RESEARCH = "Research"
LASTS = {RESEARCH: [Script(lasts=True)]}


async def test_requirement_ends_on_the_build_that_it_was_started_on(
    house: House, other: House
) -> None:
    client, installation = house.identity.client, house.installation
    await house.open(LASTS, build_id="1")
    await take_up(client, installation, "1")
    old = await house.start()
    await house.until_running(RESEARCH)
    await other.open(build_id="2")
    await take_up(client, installation, "2")
    assert [build.id for build in await builds(client, installation) if build.is_current] == ["1"]

    await make_current(client, installation, "2", waits_for_worker=True)
    await delivered(await other.start(number=f"{old.id}-new"))
    assert house.runs.started() == [RESEARCH]
    of_new = other.runs.started()
    await house.runs.let_end(old.id)
    await delivered(old)

    assert other.runs.started() == of_new
    assert sorted(house.runs.started()) == sorted(of_new)
    assert await builds(client, installation) == (
        Build("2", is_current=True, note=""),
        Build("1", is_current=False, note="its requirements are still running"),
    )


@pytest.mark.parametrize("is_long", [False, True], ids=["a few events", "a long history"])
async def test_sasha_follows_to_the_current_build(
    is_long: bool, monkeypatch: pytest.MonkeyPatch, house: House, other: House
) -> None:
    """Also when she has continued as new, which she does for ever."""
    client, installation = house.identity.client, house.installation
    monkeypatch.setattr(continuing, "EVENTS", 60 if is_long else 1_000)
    await house.open(build_id="1")
    await take_up(client, installation, "1")
    await is_looked_after(house)
    while is_long and len(await house.chain(installation.sasha)) == 1:
        await is_looked_after(house)
    await other.open(build_id="2")

    await make_current(client, installation, "2", waits_for_worker=True)

    # The server tells its own parts of a new current build one after another.
    while not other.cluster_care.looks:
        await is_looked_after(house, other)
    await house.close()
    await is_looked_after(other)


async def is_looked_after(*houses: House) -> None:
    """Call Sasha, and wait for the end of the look that every call causes.

    Called before it has ended, she would look again, and never come to continue as new.
    """

    def looks() -> int:
        return sum(house.cluster_care.looks for house in houses)

    async def is_idle() -> bool:
        handle = houses[0].identity.client.get_workflow_handle(houses[0].installation.sasha)
        pending = (await handle.describe()).raw_description
        return not (pending.pending_activities or pending.HasField("pending_workflow_task"))

    before = looks()
    await houses[0].patrol()
    await eventually(lambda: looks() > before, "Sasha has looked")
    await until(is_idle, "Sasha waits for calls")


async def test_build_that_no_worker_has_cannot_become_current(house: House) -> None:
    client, installation = house.identity.client, house.installation
    assert await builds(client, installation) == ()
    with pytest.raises(RefusedInput, match="AGOG_WORKER_BUILD_ID=3 first"):
        await make_current(client, installation, "3")
    await house.open(build_id="1")
    await take_up(client, installation, "1")

    with pytest.raises(RefusedInput, match="AGOG_WORKER_BUILD_ID=3 first"):
        await make_current(client, installation, "3")

    assert [build.id for build in await builds(client, installation)] == ["1"]


async def test_requirement_from_before_the_first_build_goes_on_with_it(house: House) -> None:
    client, installation = house.identity.client, house.installation
    await house.open(LASTS)
    handle = await house.start()
    await house.until_running(RESEARCH)
    await house.close()

    await house.open(build_id="1")
    await take_up(client, installation, "1")

    await delivered(handle)


async def test_builds_can_be_left_again(house: House, other: House) -> None:
    client, installation = house.identity.client, house.installation
    await house.open(build_id="1")
    await take_up(client, installation, "1")
    await delivered(await house.start())
    await is_looked_after(house)
    await make_current(client, installation, "")

    await other.open()

    while not other.cluster_care.looks:
        await is_looked_after(house, other)
    await house.close()
    await delivered(await other.start(number=f"{house.number}-later"))
