"""Runs that are suspended for others: every process stops, the same run continues."""

import asyncio
from datetime import timedelta

import pytest

from adapters.runs import records
from pipeline.errors import RefusedInput
from pipeline.model import RunEnd
from tests.fixtures_runs import Bench, attach, until
from tests.suspended_runs import (
    AGENT,
    DAEMON,
    FAMILY,
    KEY,
    attached_to,
    ended_after,
    family,
    is_suspended,
    let_go,
    moves,
    stood_still,
)


async def test_every_process_of_a_suspended_run_stops_and_the_same_run_goes_on(runs: Bench) -> None:
    runs.shell(DAEMON + FAMILY)
    order, host = runs.order(), runs.host()
    attached = await attached_to(runs, host, order, 4)

    assert await host.suspend(KEY) == (order.run_id,)
    await until(lambda: is_suspended(runs, order))
    assert len(family(runs, order)) >= 5
    beats = runs.directory(order).path.joinpath("beats").stat().st_size

    assert await host.resume(KEY) == (order.run_id,)
    await until(lambda: moves(runs, order))
    await until(lambda: runs.directory(order).path.joinpath("beats").stat().st_size > beats)
    let_go(runs, order)
    result = await attached

    assert (result.end, result.output, result.starts) == (RunEnd.EXITED, "done\n", 1)
    assert len(result.suspensions) == 2
    assert not result.pre_empted


async def test_only_the_runs_of_that_execution_are_suspended(runs: Bench) -> None:
    runs.shell(AGENT)
    order, other, host = runs.order(), runs.order(number="REQ-10"), runs.host()
    tasks = [await attached_to(runs, host, each) for each in (order, other)]

    assert await host.suspend(KEY) == (order.run_id,)
    await until(lambda: is_suspended(runs, order))
    let_go(runs, other)

    assert (await tasks[1]).output == "done\n"
    await host.end(order.run_id)


async def test_the_slot_of_a_suspended_run_serves_another_and_is_needed_to_go_on(
    runs: Bench,
) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    order, urgent = runs.order(), runs.order(number="REQ-2", priority=0)
    host = runs.host()
    suspended = await attached_to(runs, host, order)
    await host.suspend(KEY)
    p0 = await attached_to(runs, host, urgent)

    await host.resume(KEY)
    done, _ = await asyncio.wait({suspended}, timeout=1.2)
    assert not done
    assert is_suspended(runs, order)
    let_go(runs, order)
    let_go(runs, urgent)

    assert [(await task).output for task in (p0, suspended)] == ["done\n", "done\n"]
    assert (await suspended).ended_at > (await p0).ended_at  # type: ignore[operator]


async def test_suspended_time_does_not_count_for_the_deadline(runs: Bench) -> None:
    runs.shell(AGENT)
    # It has to be suspended twice before its time is over.
    order = runs.order(deadline=timedelta(seconds=3.5), grace=timedelta(seconds=0.5))
    host = runs.host()
    attached = await attached_to(runs, host, order)

    for _ in range(2):
        await host.suspend(KEY)
        await until(lambda: is_suspended(runs, order))
        done, _ = await asyncio.wait({attached}, timeout=1.2)
        assert not done
        await host.resume(KEY)
        await until(lambda: moves(runs, order))
    result = await attached

    assert result.end is RunEnd.TIMED_OUT
    assert stood_still(result) > timedelta(seconds=2.4)
    # Had that counted, 1.6 s of work would be left. Its supervisor follows an order a moment later.
    assert result.elapsed > timedelta(seconds=3.0)
    assert "of suspension" in result.reason


async def test_a_deadline_can_be_extended_while_the_run_is_suspended(runs: Bench) -> None:
    runs.minute_seconds = 1.0
    runs.shell(AGENT)
    deadline = timedelta(seconds=4)  # by then it must be suspended
    order, host = runs.order(deadline=deadline), runs.host()
    attached = await attached_to(runs, host, order)
    await host.suspend(KEY)

    await host.extend(order.run_id, timedelta(minutes=30))
    await host.resume(KEY)
    done, _ = await asyncio.wait({attached}, timeout=4.5)
    assert not done
    let_go(runs, order)

    assert (await attached).end is RunEnd.EXITED


async def test_a_repeated_order_is_one_order(runs: Bench) -> None:
    runs.shell(AGENT)
    order, host = runs.order(), runs.host()
    attached = await attached_to(runs, host, order)

    assert await host.suspend(KEY) == await host.suspend(KEY) == (order.run_id,)
    await until(lambda: is_suspended(runs, order))
    assert await host.resume(KEY) == (order.run_id,)
    await until(lambda: moves(runs, order))
    assert await host.resume(KEY) == ()
    let_go(runs, order)

    assert (await attached).output == "done\n"


async def test_going_on_without_an_order_changes_nothing(runs: Bench) -> None:
    runs.shell(AGENT)
    order, host = runs.order(), runs.host()
    assert await host.resume(KEY) == ()
    attached = await attached_to(runs, host, order)
    assert await host.resume(KEY) == ()
    let_go(runs, order)

    assert (await attached).suspensions == ()


async def test_a_run_that_is_yet_to_start_waits_without_a_slot(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    order, other, host = runs.order(), runs.order(number="REQ-2", priority=4), runs.host()
    assert await host.suspend(KEY) == ()
    waiting = asyncio.create_task(attach(host, order))
    attached = await attached_to(runs, host, other)
    assert not runs.directory(order).has(records.STARTED)
    let_go(runs, other)
    await attached

    assert await host.resume(KEY) == ()
    await until(lambda: runs.directory(order).path.joinpath("pids").exists())
    let_go(runs, order)
    result = await waiting

    assert (result.output, result.starts) == ("done\n", 1)


async def test_a_run_that_waits_for_a_slot_leaves_it_to_others_when_suspended(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    first, order, last = (
        runs.order(number=f"REQ-{n}", priority=p) for n, p in enumerate((2, 1, 3))
    )
    host = runs.host()
    running = await attached_to(runs, host, first)
    waiting = asyncio.create_task(attach(host, order))
    await until(lambda: host.queue_place(order.run_id)[0] > 0)
    assert await host.suspend(KEY) == ()
    let_go(runs, first)
    await running

    assert (await ended_after(host, runs, last)).output == "done\n"
    assert not runs.directory(order).has(records.STARTED)
    waiting.cancel()


@pytest.mark.parametrize("key", ["REQ-1", "../x", "REQ-1/wf-1/x", "REQ-1/..", ""])
async def test_a_key_that_names_no_execution_is_refused(runs: Bench, key: str) -> None:
    with pytest.raises(RefusedInput, match="names no execution"):
        await runs.host().suspend(key)
