"""What a host tells of its runs while they continue, and of a whole execution at its end."""

import asyncio
from datetime import datetime

from adapters.runs import records
from pipeline.model import Head, RunEnd, RunStart
from tests.fixtures_runs import Bench, attach, until

HELD = "until test -e go; do sleep 0.01; done; echo done"


async def test_the_start_of_a_living_run_is_told_to_each_who_attaches(runs: Bench) -> None:
    runs.shell(HELD)
    order, told = runs.order(head=Head("c0ffee", 7)), list[datetime]()

    async def hear(start: RunStart) -> None:
        assert start.head == order.head
        told.append(start.at)

    attached = [asyncio.create_task(attach(runs.host(), order, hear)) for _ in range(2)]
    await until(lambda: len(told) == 2)
    runs.let_go(order)
    results = await asyncio.gather(*attached)

    assert {result.started_at for result in results} == set(told)
    assert {result.head for result in results} == {order.head}
    assert len(told) == 2


async def test_every_run_of_an_execution_is_ended_and_told(runs: Bench) -> None:
    runs.shell("true")
    done, other = runs.order(stage="Research"), runs.order(number="REQ-2")
    await attach(runs.host(), done)
    runs.shell(HELD)
    held = runs.order()
    attached = [asyncio.create_task(attach(runs.host(), order)) for order in (held, other)]
    await until(lambda: all(runs.directory(o).has(records.STARTED) for o in (held, other)))

    results = await runs.host().end_all("REQ-1/wf-1")

    assert {run_id: result.end for run_id, result in results.items()} == {
        done.run_id: RunEnd.EXITED,
        held.run_id: RunEnd.CANCELLED,
    }
    assert not runs.directory(other).has(records.EXIT)
    runs.let_go(other)
    assert [result.output for result in await asyncio.gather(*attached)] == ["", "done\n"]
