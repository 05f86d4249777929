"""What `AgentRuns` promises, of real processes and of the script that stands in for them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from pipeline.errors import UnknownRequirement
from pipeline.model import RunEnd, RunResult, RunStart
from pipeline.ports import AgentRuns
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.fakes import RealClock, Script, ScriptedRuns
from tests.fixtures_runs import Bench, Order
from tests.suspended_runs import KEY, is_suspended

LASTING, BRIEF = "lasting", "brief"


@dataclass
class World:
    """Agents of two sorts, one that lasts until it is let go, and one that ends at once."""

    runs: AgentRuns
    bench: Bench
    scripted: ScriptedRuns | None

    def order(self, stage: str = LASTING) -> Order:
        return self.bench.order(stage=stage, agent="roy" if stage == LASTING else "jen")

    async def start(self, order: Order) -> bool:
        async with self.runs.slot(order.slot) as has_slot:
            return has_slot and await self.runs.start(order)

    async def running(self, order: Order) -> "asyncio.Task[RunResult]":
        """Start it, attach to it, and wait until its agent is seen to live."""
        assert await self.start(order)
        is_seen = asyncio.Event()

        async def on_start(start: RunStart) -> None:
            assert not is_seen.is_set(), "it is said once"
            is_seen.set()

        task = asyncio.create_task(self.runs.attach(order.slot, on_start))
        await asyncio.wait_for(is_seen.wait(), PATIENCE_SECONDS)
        return task

    async def suspend(self, order: Order) -> None:
        """Suspend its execution, and wait until its processes have stopped."""
        assert tuple(await self.runs.suspend(KEY)) == (order.run_id,)
        if not self.scripted:
            await eventually(lambda: is_suspended(self.bench, order), "a run that stands still")

    async def let_end(self, order: Order) -> None:
        if self.scripted:
            await self.scripted.let_end()
        else:
            self.bench.let_go(order)


async def nobody(start: RunStart) -> None:
    """Nobody listens."""


@pytest.fixture(params=["real", "scripted"])
def world(request: pytest.FixtureRequest, runs: Bench) -> World:
    runs.limit = 1
    runs.shell('until [ -e "$AGOG_RUN_DIR/go" ]; do sleep 0.02; done; echo done')
    runs.shell("echo done", agent="jen")
    if request.param == "real":
        return World(runs.host(), runs, None)
    scripts = {LASTING: [Script(lasts=True, output="done\n")], BRIEF: [Script(output="done\n")]}
    scripted = ScriptedRuns(RealClock(), scripts)
    scripted.slots = 1
    return World(scripted, runs, scripted)


async def test_run_is_started_once_it_was_and_its_end_is_told_again(world: World) -> None:
    order = world.order(BRIEF)
    assert await world.runs.next_part(order.run_id) == 0
    assert await world.start(order)
    assert await world.runs.next_part(order.run_id) is None

    result = await world.runs.attach(order.slot, nobody)
    again = await world.runs.attach(order.slot, nobody)

    assert (result.end, result.exit_code, result.output, result.starts) == (
        RunEnd.EXITED, 0, "done\n", 1,
    )  # fmt: skip
    assert again == result
    assert await world.runs.next_part(order.run_id) is None


async def test_slot_is_had_by_one_living_agent_and_then_by_the_next(world: World) -> None:
    first, second = world.order(), world.order(BRIEF)
    living = await world.running(first)
    assert not await world.start(second)

    await world.runs.queue(second.slot)
    waiting = asyncio.create_task(world.runs.wait_for_slot(second.slot))
    await world.let_end(first)
    await asyncio.wait_for(living, PATIENCE_SECONDS)
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)

    assert await world.start(second)
    assert (await world.runs.attach(second.slot, nobody)).end is RunEnd.EXITED


@pytest.mark.parametrize(
    "end", [lambda w, o: w.runs.end(o.run_id), lambda w, o: w.runs.end_all(KEY)]
)
async def test_what_is_ended_is_cancelled_for_whoever_is_attached(
    world: World, end: Callable[[World, Order], object]
) -> None:
    order = world.order()
    living = await world.running(order)

    ended = await end(world, order)  # type: ignore[misc] # one of two coroutines

    result = await asyncio.wait_for(living, PATIENCE_SECONDS)
    assert result.end is RunEnd.CANCELLED
    told = ended[order.run_id] if isinstance(ended, dict) else ended
    assert isinstance(told, RunResult)
    assert (told.end, told.output) == (RunEnd.CANCELLED, "")
    assert await world.runs.next_part(order.run_id) is None


async def test_end_of_what_has_ended_changes_nothing(world: World) -> None:
    order = world.order(BRIEF)
    assert await world.start(order)
    await world.runs.attach(order.slot, nobody)

    told = await world.runs.end(order.run_id)

    assert (told.end, told.exit_code, told.output) == (RunEnd.EXITED, 0, "")


async def test_suspended_run_does_not_end_and_nothing_of_its_execution_starts(
    world: World,
) -> None:
    order, other = world.order(), world.order(BRIEF)
    living = await world.running(order)

    await world.suspend(order)
    await world.let_end(order)
    async with world.runs.slot(other.slot):
        assert not await world.runs.start(other)
    resumed = asyncio.create_task(world.runs.until_resumed(other.run_id))
    await asyncio.wait([living, resumed], timeout=0.3)
    assert not living.done()
    assert not resumed.done()
    await world.runs.resume(KEY)

    assert (await asyncio.wait_for(living, PATIENCE_SECONDS)).end is RunEnd.EXITED
    await asyncio.wait_for(resumed, PATIENCE_SECONDS)
    assert await world.start(other)
    await world.runs.attach(other.slot, nobody)


async def test_deadline_is_moved_of_what_runs_alone(world: World) -> None:
    order = world.order()
    with pytest.raises(UnknownRequirement):
        await world.runs.extend(order.run_id, timedelta(hours=3))
    living = await world.running(order)

    await world.runs.extend(order.run_id, timedelta(hours=3))
    await world.let_end(order)
    await asyncio.wait_for(living, PATIENCE_SECONDS)

    with pytest.raises(UnknownRequirement):
        await world.runs.extend(order.run_id, timedelta(hours=4))


async def test_attached_caller_that_is_cancelled_leaves_the_agent_alone(world: World) -> None:
    order = world.order()
    living = await world.running(order)
    living.cancel()
    await eventually(living.done, "the end of the caller")

    assert await world.runs.next_part(order.run_id) is None
    again = asyncio.create_task(world.runs.attach(order.slot, nobody))
    await world.let_end(order)

    result = await asyncio.wait_for(again, PATIENCE_SECONDS)
    assert (result.end, result.starts) == (RunEnd.EXITED, 1)
