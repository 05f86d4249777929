"""Runs that end, die or are about to start while they have to be suspended."""

import asyncio
import os
import signal

import pytest

from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.kinds import SupervisedRuns
from adapters.runs.resources import RunResources
from pipeline.model import RunEnd
from tests.fixtures_runs import PORTS, Bench, Order, attach, is_running, until
from tests.suspended_runs import (
    AGENT,
    FAMILY,
    KEY,
    attached_to,
    ended_after,
    family,
    is_suspended,
    let_go,
)


@pytest.mark.parametrize("victim", ["supervisor", "agent"])
async def test_only_a_run_that_died_while_suspended_is_pre_empted(runs: Bench, victim: str) -> None:
    runs.shell(FAMILY)
    order, host = runs.order(), runs.host()
    attached = await attached_to(runs, host, order, 3)
    await host.suspend(KEY)
    await until(lambda: is_suspended(runs, order))
    processes = family(runs, order)

    os.kill(runs.directory(order).identity()[victim], signal.SIGKILL)
    result = await attached

    assert (result.end, result.exit_code, result.pre_empted) == (RunEnd.LOST, None, True)
    assert not any(map(is_running, processes))
    assert await host.resume(KEY) == ()
    assert (await attach(host, order)).pre_empted


async def test_a_run_that_dies_after_it_went_on_is_not_pre_empted(runs: Bench) -> None:
    runs.shell(AGENT)
    order, host = runs.order(), runs.host()
    attached = await attached_to(runs, host, order)
    await host.suspend(KEY)
    await host.resume(KEY)
    await until(lambda: not runs.directory(order).is_suspended)

    os.kill(runs.directory(order).identity()["supervisor"], signal.SIGKILL)

    assert ((await attached).end, (await attached).pre_empted) == (RunEnd.LOST, False)


async def test_a_suspended_run_can_be_ended(runs: Bench) -> None:
    runs.shell(f"trap 'echo told > told; exit' TERM; {AGENT}")
    order, host = runs.order(), runs.host()
    attached = await attached_to(runs, host, order)
    await host.suspend(KEY)
    await until(lambda: is_suspended(runs, order))
    processes = family(runs, order)

    results = await host.end_all(KEY)

    assert {run_id: result.end for run_id, result in results.items()} == {
        order.run_id: RunEnd.CANCELLED
    }
    result = await attached
    assert (result.end, result.pre_empted) == (RunEnd.CANCELLED, False)
    assert (
        runs.directory(order).path.joinpath("told").exists()
    )  # it was continued, and so could act on SIGTERM
    assert not any(map(is_running, processes))
    assert list(runs.home.glob("suspended/*/*")) == []


def supervised_before_its_start(runs: Bench, order: Order) -> RunDirectory:
    """A run that was suspended when its supervisor was started, but not yet the agent."""
    run = runs.directory(order)
    run.create()
    run.file(records.SUSPENSIONS).write_text(f"{records.now()}\n")
    record = RunRecord(
        order.run_id, "command", "roy", str(run.path), 3600, 0, 60, ("sh", "-c", AGENT), ("PATH",)
    )
    resources = RunResources(runs.home, PORTS)
    started = SupervisedRuns().start(run, record, "Do it.", runs.environment, resources=resources)
    assert started
    return run


async def test_an_order_between_slot_and_start_is_heeded_by_the_supervisor(runs: Bench) -> None:
    runs.limit = 1
    runs.shell(AGENT)
    order, other = runs.order(), runs.order(number="REQ-2")
    run = supervised_before_its_start(runs, order)
    await until(lambda: bool(run.identity()))

    host = runs.host()
    assert await host.suspend(KEY) == (order.run_id,)
    attached = asyncio.create_task(attach(host, order))
    assert (await ended_after(host, runs, other)).output == "done\n"
    assert not run.has(records.STARTED)
    await host.resume(KEY)
    await until(lambda: run.path.joinpath("pids").exists())
    let_go(runs, order)

    assert (await attached).starts == 1


async def test_a_run_whose_supervisor_waits_to_start_can_be_ended(runs: Bench) -> None:
    order, host = runs.order(), runs.host()
    run = supervised_before_its_start(runs, order)
    await until(lambda: bool(run.identity()))

    await host.suspend(KEY)
    await host.end(order.run_id)

    result = await attach(host, order)
    assert (result.end, result.starts, result.pre_empted) == (RunEnd.CANCELLED, 0, False)


async def test_a_run_that_ends_in_the_same_moment_has_ended_by_itself(runs: Bench) -> None:
    runs.shell("until test -e go; do :; done; echo done")
    host = runs.host()
    for nth in range(12):
        order = runs.order(number=f"REQ-{nth}")
        attached = asyncio.create_task(attach(host, order))
        await until(lambda order=order: "agent" in runs.directory(order).identity())  # type: ignore[misc] # bound per run
        let_go(runs, order)
        await asyncio.sleep(nth / 1000)
        await host.suspend(f"REQ-{nth}/wf-1")
        await host.resume(f"REQ-{nth}/wf-1")

        result = await attached
        assert (result.end, result.output, result.pre_empted) == (RunEnd.EXITED, "done\n", False)
