"""A stage starts in one order: a slot, the P0 gate, a clone of that moment's tip, its agent."""

from functools import partial
from pathlib import Path

import pytest

from adapters.runs.directory import RECORDS
from adapters.runs.slots import WAITING_ROOM, SlotLimit
from pipeline.model import Priority, RequirementState
from tests.e2e.conftest import STARTER
from tests.eventually import eventually, eventually_async
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import BACKEND, FRONTEND, PAIR, SOLO
from tests.pre_emption import Emergency

ONE = {"MAX_PARALLEL_STAGES": "1"}


@pytest.fixture
def emergency(orchestra: Orchestra, tmp_path: Path) -> Emergency:
    return Emergency(orchestra, tmp_path)


async def crowd(orchestra: Orchestra, count: int) -> list[Handle]:
    return [await orchestra.start(SOLO, number=f"{orchestra.number}-{n}") for n in range(count)]


async def delivered(*handles: Handle) -> None:
    for handle in handles:
        assert (await handle.result()).state is RequirementState.DELIVERED


async def until_held(orchestra: Orchestra, number: str, boundary: str) -> None:
    async def is_held() -> bool:
        return boundary in {hold.boundary for hold in (await orchestra.view(number)).holds}

    await eventually_async(is_held, f"{number} held at {boundary}")


async def until_queued(orchestra: Orchestra, number: str, stage: str = BACKEND) -> None:
    """Wait until the stage waits for a slot."""

    async def is_queued() -> bool:
        query = "SELECT 1 FROM stages WHERE number = %s AND stage = %s AND queued_at IS NOT NULL"
        return bool(await orchestra.query(query, number, stage))

    await eventually_async(is_queued, f"{stage} of {number} is queued")


async def open_p0(orchestra: Orchestra) -> str:
    """A P0 that nobody has begun: it is open, and takes no slot."""
    number = f"{orchestra.number}-PLAIN"
    await orchestra.accept(SOLO, number=number, priority=Priority.P0)
    return number


async def test_gate_is_passed_by_who_waited_for_a_slot_of_a_killed_worker(
    orchestra: Orchestra,
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(**ONE)
    first = await orchestra.start(SOLO, number=f"{orchestra.number}-A")
    await eventually(lambda: len(puppets.living("roy")) == 1, "the first agent")
    second = await orchestra.start(SOLO, number=f"{orchestra.number}-B")
    await until_queued(orchestra, second.id)

    orchestra.worker.kill()
    urgent = await open_p0(orchestra)
    puppets.release("roy")
    await eventually(lambda: not puppets.living("roy"), "the slot is free")
    await orchestra.worker.start(**ONE)
    await until_held(orchestra, second.id, BACKEND)

    assert puppets.starts("roy") == 1
    await delivered(await orchestra.begin(urgent), first, second)
    assert puppets.starts("roy") == 3


async def test_gate_is_passed_after_a_suspension_for_another_p0(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """What the first P0 waits for runs, and keeps the only slot until there is a second one."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(**ONE)
    running = await orchestra.start(SOLO, number=f"{orchestra.number}-A")
    await emergency.until_living("roy")
    waiting = await orchestra.start(SOLO, number=f"{orchestra.number}-B")
    await until_queued(orchestra, waiting.id)
    emergency.begin("--preempt", "--blocked-by", running.id)
    urgent = await open_p0(orchestra)
    emergency.run("slots", "2")
    await until_held(orchestra, waiting.id, BACKEND)

    emergency.run("cancel", emergency.number)
    await orchestra.until_state(RequirementState.CANCELLED, emergency.number)
    await until_held(orchestra, waiting.id, BACKEND)
    assert puppets.starts("roy") == 1
    puppets.release("roy")
    await delivered(await orchestra.begin(urgent), waiting, running)
    assert puppets.starts("roy") == 3


async def test_who_was_held_starts_on_what_was_merged_meanwhile_and_all_say_so(
    orchestra: Orchestra,
) -> None:
    """jen waits for roy's slot, is held by a P0 when he ends, and starts on his merge."""
    puppets = orchestra.puppets
    puppets.task("roy", files={"backend/roy.txt": "roy"})
    puppets.task("jen", files={"frontend/jen.txt": "jen"})
    puppets.hold("roy", "jen")
    await orchestra.worker.start(**ONE)
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(puppets.living()) == 1, "the first agent")
    [first] = puppets.living()
    waits = FRONTEND if first.name == "roy" else BACKEND
    await until_queued(orchestra, handle.id, waits)
    urgent = await open_p0(orchestra)
    puppets.release(first.name)
    await until_held(orchestra, handle.id, waits)
    puppets.release("roy", "jen")
    await delivered(await orchestra.begin(urgent), handle)

    merged = {gate.gate: gate.commit for gate in (await orchestra.view(handle.id)).gates}
    tip = merged[f"merge {BACKEND if waits == FRONTEND else FRONTEND}"]
    slug = f"{waits.lower().replace(' ', '-')}-1"
    [run] = orchestra.home.glob(f"{RECORDS}/{handle.id}/*/{slug}")
    assert f"at {tip}." in (run / "prompt").read_text()
    agent = "jen" if waits == FRONTEND else "roy"
    assert (puppets.directory / f"{agent}.worked-on").read_text() == tip


async def test_full_host_leaves_openings_to_others_and_takes_the_more_urgent_first(
    orchestra: Orchestra,
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(AGOG_HOST_REQUIREMENTS="1")
    first = await orchestra.start(SOLO, number=f"{orchestra.number}-A")
    await eventually(lambda: puppets.starts("roy") == 1, "the host is full")
    crowded = await crowd(orchestra, 5)
    urgent = await orchestra.start(SOLO, number=f"{orchestra.number}-P1", priority=Priority.P1)

    async def are_scheduled() -> bool:
        pending = [(await each.describe()).raw_description for each in (*crowded, urgent)]
        return all(len(each.pending_activities) == 1 for each in pending)

    await eventually_async(are_scheduled, "all of them wait for a host")
    assert [await orchestra.attempts(each) for each in (*crowded, urgent)] == [[]] * 6

    puppets.release("roy")
    await delivered(first, urgent, *crowded)
    assert [sign.number for sign in puppets.signs("start", "roy")][:2] == [first.id, urgent.id]


@pytest.mark.slow
async def test_waiting_costs_a_constant_whatever_waits(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """Nothing is opened for those who wait, and no more are on the host than its waiting room."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(**ONE)
    handles = await crowd(orchestra, WAITING_ROOM + 10)
    for handle in handles:
        await eventually_async(partial(is_queued_or_runs, orchestra, handle.id), "it waits")

    taken = [len(await orchestra.attempts(handle)) for handle in handles]
    assert sum(taken) == 1 + WAITING_ROOM
    assert len([*orchestra.home.glob("clones/*/stage-*")]) == 1
    [(runs,)] = await orchestra.query("SELECT count(*) FROM runs")
    assert (runs, puppets.starts("roy")) == (1, 1)

    urgent = await orchestra.start(SOLO, number=f"{orchestra.number}-P1", priority=Priority.P1)
    await until_queued(orchestra, urgent.id)
    shown = emergency.run("status", urgent.id, "--json").document["queued"]
    assert [(each["place"], each["waiting"]) for each in shown] == [(1, len(handles))]
    puppets.release("roy")
    await delivered(urgent, *handles)
    assert [sign.number for sign in puppets.signs("start", "roy")][1] == urgent.id
    assert puppets.most_at_once() == 1


async def test_stage_that_waits_for_a_slot_is_shown_with_its_place_and_why(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(MAX_PARALLEL_STAGES="2")
    SlotLimit(orchestra.home, 2).set(1)
    running = await orchestra.start(SOLO, number=f"{orchestra.number}-A")
    await emergency.until_living("roy")
    waiting = await orchestra.start(SOLO, number=f"{orchestra.number}-B")
    await until_queued(orchestra, waiting.id)
    line = f"place 1 of 1, 1 of 1 slots used; 2 are configured, set by `{STARTER} slots`"

    async def is_told() -> bool:
        return line in emergency.run("status", waiting.id).out

    await eventually_async(is_told, "its place is told")
    [listed] = emergency.run("list", "--waiting", "--json").document["requirements"]
    assert (listed["req_number"], listed["queued"][0]["place"]) == (waiting.id, 1)

    async def is_shown() -> bool:
        details = (await waiting.query("__temporal_workflow_metadata")).current_details
        cells = [[cell.strip() for cell in row.split("|")] for row in details.splitlines()]
        return ["", BACKEND, "roy", "queued for a slot"] in [row[:4] for row in cells]

    await eventually_async(is_shown, "the Web UI says so")
    puppets.release("roy")
    await delivered(running, waiting)
    assert emergency.run("status", waiting.id, "--json").document["queued"] == []


async def is_queued_or_runs(orchestra: Orchestra, number: str) -> bool:
    query = "SELECT 1 FROM stages WHERE number = %s AND (queued_at IS NOT NULL OR attempt > 0)"
    return bool(await orchestra.query(query, number))
