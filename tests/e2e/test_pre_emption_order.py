"""Who is next on a host that is saturated or full: a P0; and slots that change as it runs."""

from pathlib import Path

import pytest

from adapters.runs.inventory import count_runs
from pipeline.model import RequirementState
from tests.eventually import eventually, eventually_async
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import SOLO
from tests.pre_emption import Emergency


@pytest.fixture
def emergency(orchestra: Orchestra, tmp_path: Path) -> Emergency:
    return Emergency(orchestra, tmp_path)


async def crowd(orchestra: Orchestra, count: int) -> list[Handle]:
    return [await orchestra.start(SOLO, number=f"{orchestra.number}-{n}") for n in range(count)]


async def until_asked(orchestra: Orchestra, handles: list[Handle]) -> None:
    """Wait until each has passed the gate: it waits for a slot, or has one."""

    async def have_asked() -> bool:
        views = [await orchestra.view(handle.id) for handle in handles]
        return all(view.queued or view.stages[0].attempt for view in views)

    await eventually_async(have_asked, "every stage has asked for a slot")


async def delivered(*handles: Handle) -> None:
    for handle in handles:
        assert (await handle.result()).state is RequirementState.DELIVERED


async def test_p0_is_the_next_to_start_on_a_saturated_host(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """Its agents have the next slot, before those who have waited for one all along."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(MAX_PARALLEL_STAGES="1")
    handles = await crowd(orchestra, 6)
    await until_asked(orchestra, handles)
    await eventually(lambda: puppets.starts("roy") == 1, "an agent")
    emergency.begin()
    urgent = orchestra.handle(emergency.number)
    await eventually(lambda: count_runs(orchestra.home).waiting == 6, "it waits for a slot")

    puppets.release("roy")
    await delivered(urgent, *handles)

    assert [sign.name for sign in puppets.signs("start")][:2] == ["roy", "cynthia"]


async def test_nobody_starts_between_the_stages_of_a_p0(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    """Also not who had been opened before it, and waited for a slot: they are held."""
    emergency = Emergency(orchestra, tmp_path, (("Research", "cynthia"), ("Critique", "sylvia")))
    puppets = orchestra.puppets
    puppets.task("sylvia", notice={"critique_verdict": "APPROVED"})
    puppets.hold("roy")
    await orchestra.worker.start(MAX_PARALLEL_STAGES="1")
    handles = await crowd(orchestra, 4)
    await until_asked(orchestra, handles)
    emergency.begin()
    urgent = orchestra.handle(emergency.number)
    await eventually(lambda: count_runs(orchestra.home).waiting == 4, "it waits for a slot")

    puppets.release("roy")
    await delivered(urgent, *handles)

    agents = ("roy", "cynthia", "sylvia")
    started = [sign.name for sign in puppets.signs("start") if sign.name in agents]
    assert started == [*agents, "roy", "roy", "roy"]
    for handle in handles:
        [run] = await orchestra.reader.runs(handle.id)
        assert (run.attempt, run.starts, run.state) == (1, 1, "completed")
        types = [event.type for event in await orchestra.reader.events(handle.id)]
        assert types.count("stage.started") == 1


async def test_p0_needs_no_room_on_a_full_host(orchestra: Orchestra, emergency: Emergency) -> None:
    """Those who wait for room would have it before, and each takes as long as an agent."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(AGOG_HOST_REQUIREMENTS="1")
    handles = await crowd(orchestra, 6)
    await emergency.until_living("roy")

    emergency.begin()
    await delivered(orchestra.handle(emergency.number))

    assert (puppets.starts("roy"), puppets.ends("roy")) == (1, 0)
    puppets.release("roy")
    await delivered(*handles)


async def test_who_comes_under_a_p0_fills_no_host_beyond_its_room(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "cynthia")
    await orchestra.worker.start(AGOG_HOST_REQUIREMENTS="2")
    emergency.begin()
    await emergency.until_living("cynthia")
    handles = await crowd(orchestra, 4)
    for handle in handles:
        await emergency.until_held(handle.id)
    assert {(await orchestra.view(each.id)).workflow_run for each in handles} == {None}

    puppets.release("cynthia")
    await eventually(lambda: len(puppets.living("roy")) == 2, "as many as there is room for")
    puppets.release("roy")
    await delivered(*handles)
    assert puppets.most_at_once() == 2


async def test_what_a_p0_waits_for_needs_no_room_either(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """It has waited for room itself, behind others, when the P0 is started."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(AGOG_HOST_REQUIREMENTS="1")
    first, *queue = await crowd(orchestra, 4)
    await emergency.until_living("roy")
    emergency.begin("--blocked-by", queue[-1].id)

    await eventually(lambda: puppets.starts("roy") == 2, "the blocker's agent runs")
    assert puppets.signs("start", "roy")[-1].number == queue[-1].id
    puppets.release("roy")
    await delivered(orchestra.handle(emergency.number), first, *queue)


async def test_slots_are_followed_by_the_running_worker(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(MAX_PARALLEL_STAGES="2")
    handles = await crowd(orchestra, 6)
    await until_asked(orchestra, handles)
    await eventually(lambda: len(puppets.living("roy")) == 2, "two agents")

    emergency.run("slots", "4")
    await eventually(lambda: len(puppets.living("roy")) == 4, "four agents")
    emergency.run("slots", "1")

    def are_told() -> bool:
        told = emergency.run("slots", "--json").document
        return (told["slots"], told["living"], told["waiting"]) == (1, 4, 2)

    await eventually(are_told, "four above the limit, two that wait")
    puppets.release("roy")
    await delivered(*handles)

    assert puppets.most_at_once() == 4
    ends = [place for place, sign in enumerate(puppets.log()) if sign.what == "end"]
    late = [place for place, sign in enumerate(puppets.log()) if sign.what == "start"][4:]
    assert late[0] > ends[3]  # above the lower limit all had to end before another one began
