"""Deliveries to one target take turns: a crowd that arrives together needs no human."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from adapters.temporal.messages import TemporalSasha
from pipeline.model import RequirementState, SashaCall
from pipeline.team import TEAM
from tests.eventually import eventually, eventually_async
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import SOLO

_AGENT = """
import json, os, pathlib
number, agent = os.environ["AGOG_REQUIREMENT"], os.environ["AGOG_AGENT"]
pathlib.Path("backend").mkdir(exist_ok=True)
pathlib.Path("backend", f"{number}.txt").write_text(number)
notice = {"agent": agent, "req_number": number, "status": "COMPLETE", "summary": "Done."}
print("```json")
print(json.dumps(notice))
print("```")
"""


def write_independent_agents(orchestra: Orchestra, directory: Path) -> None:
    """Every agent adds a file of its requirement's own; the build is the program `true`."""
    program = directory / "agent.py"
    program.write_text(_AGENT)
    argv = json.dumps([sys.executable, "-I", "-S", str(program)])
    lines = [f"[agents.{name}]\ncommand = {argv}" for name in TEAM]
    lines += [f'[builds.{side}]\ncommand = ["true"]' for side in ("backend", "frontend")]
    Path(orchestra.environment["AGOG_AGENTS_FILE"]).write_text("\n".join(lines))


async def started_together(orchestra: Orchestra, count: int) -> Sequence[Handle]:
    numbers = [f"{orchestra.number}-{nth}" for nth in range(count)]
    return [await orchestra.start(SOLO, number=number) for number in numbers]


async def is_settled(orchestra: Orchestra, handle: Handle) -> bool:
    state = (await orchestra.view(handle.id)).state
    return state.is_final or state is RequirementState.BLOCKED


async def delivered_without_a_human(orchestra: Orchestra, handles: Sequence[Handle]) -> None:
    """All are delivered, and what that has cost."""

    for handle in handles:
        await eventually_async(partial(is_settled, orchestra, handle), f"an end of {handle.id}")
    states = Counter([(await orchestra.view(handle.id)).state for handle in handles])
    assert states == {RequirementState.DELIVERED: len(handles)}
    reports = [await handle.result() for handle in handles]
    assert {report.state for report in reports} == {RequirementState.DELIVERED}, reports
    files = set(orchestra.project.files("main"))
    assert {f"backend/{handle.id}.txt" for handle in handles} <= files
    assert await orchestra.query("SELECT count(*) FROM escalations") == [(0,)]
    built = "SELECT count(*) FROM gates WHERE gate LIKE 'build %%'"
    ((builds,),) = await orchestra.query(built)
    assert builds <= 2 * len(handles), f"{builds} builds for {len(handles)} deliveries"


async def test_twelve_that_arrive_together_are_all_delivered(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    write_independent_agents(orchestra, tmp_path)
    await orchestra.worker.start(MAX_PARALLEL_STAGES="8")

    handles = await started_together(orchestra, 12)

    await delivered_without_a_human(orchestra, handles)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_thirty_that_arrive_together_are_all_delivered(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    write_independent_agents(orchestra, tmp_path)
    await orchestra.worker.start(MAX_PARALLEL_STAGES="8")

    handles = await started_together(orchestra, 30)

    await delivered_without_a_human(orchestra, handles)


async def started_with_puppets(orchestra: Orchestra, count: int) -> Sequence[Handle]:
    """Requirements whose roy adds a file of its own."""
    for nth in range(count):
        number = f"{orchestra.number}-{nth}"
        files = {f"backend/{number}.txt": f"{number}\n"}
        orchestra.puppets.task(f"{number}.roy", files=files)
    return await started_together(orchestra, count)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_thirty_agents_that_end_at_the_same_moment_alarm_nobody(
    orchestra: Orchestra,
) -> None:
    """Case care-1: clones that are just being removed were taken for orphans."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start(MAX_PARALLEL_STAGES="30")
    handles = await started_with_puppets(orchestra, 30)
    await eventually(lambda: puppets.starts("roy") == 30, "thirty agents at work")

    looking = asyncio.create_task(look_all_the_time(orchestra))
    puppets.release("roy")
    await delivered_without_a_human(orchestra, handles)
    looking.cancel()

    assert await orchestra.query("SELECT kind, subject, detail FROM incidents") == []
    assert puppets.starts("roy") == 30
    retried = [each for handle in handles for each in await retried_activities(handle)]
    assert retried == []


async def look_all_the_time(orchestra: Orchestra) -> None:
    """Have Sasha look after the host as soon as she has: by herself she looks in minutes."""
    sasha = TemporalSasha(orchestra.temporal, orchestra.installation)
    while True:
        await sasha.call(SashaCall(orchestra.name))
        await asyncio.sleep(1)


async def retried_activities(handle: Handle) -> list[str]:
    """The attempts of activities beyond the first, with what the one before has failed of."""
    events = [event async for event in handle.fetch_history_events()]
    started = [event.activity_task_started_event_attributes for event in events]
    return [f"{each.attempt}: {each.last_failure.message}" for each in started if each.attempt > 1]


async def test_killed_worker_keeps_the_turn_of_whoever_has_it(orchestra: Orchestra) -> None:
    puppets = orchestra.puppets
    puppets.hold("backend")
    await orchestra.worker.start()
    handles = await started_with_puppets(orchestra, 3)
    await eventually(lambda: puppets.starts("backend") == 1, "a build with the turn in hand")

    async def do_others_wait() -> bool:
        views = [await orchestra.view(handle.id) for handle in handles]
        return sum(view.turn is not None for view in views) == 2

    await eventually_async(do_others_wait, "two that wait for their turns")
    (building,) = {sign.number for sign in puppets.signs("start", "backend")}
    orchestra.worker.kill()
    await orchestra.worker.start()
    await eventually(lambda: puppets.starts("backend") == 2, "the build again")

    assert {sign.number for sign in puppets.signs("start", "backend")} == {building}
    puppets.release("backend")
    await delivered_without_a_human(orchestra, handles)
    assert puppets.starts("roy") == 3
    events = [event for handle in handles for event in await orchestra.events(handle.id)]
    assert len({event["eventId"] for event in events}) == len(events)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_worker_that_is_killed_again_and_again_loses_no_turn(orchestra: Orchestra) -> None:
    """Whatever step of a delivery it is in."""
    await orchestra.worker.start()
    handles = await started_with_puppets(orchestra, 6)
    for kill in range(12):
        await asyncio.sleep(0.15 * kill)
        orchestra.worker.kill()
        await orchestra.worker.start()

    await delivered_without_a_human(orchestra, handles)
    assert orchestra.puppets.starts("roy") == len(handles)
