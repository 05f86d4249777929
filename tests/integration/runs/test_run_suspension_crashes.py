"""Suspended runs and workers that are killed: orders and stopped agents outlive them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from adapters.runs import records
from adapters.runs.suspensions import ORDERS
from pipeline.model import RunEnd
from tests.fixtures_runs import Bench, attach, is_running, until
from tests.suspended_runs import AGENT, KEY, attached_to, family, is_suspended, let_go, moves

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("small_worker.py")


def small_worker(runs: Bench, run_id: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WORKER), str(runs.home), str(runs.limit), run_id]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)


async def killed_worker(runs: Bench, run_id: str) -> None:
    """A worker that was killed when the agent lived."""
    worker = small_worker(runs, run_id)
    await until(lambda: "agent" in runs.directory(runs.order()).identity())
    worker.kill()
    await asyncio.to_thread(worker.wait)


async def test_a_run_stays_suspended_over_restarts_and_holds_no_slot(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    order, other = runs.order(), runs.order(number="REQ-2")
    await killed_worker(runs, order.run_id)
    assert await runs.host().suspend(KEY) == (order.run_id,)
    await until(lambda: is_suspended(runs, order))

    restarted = runs.host()
    attached = asyncio.create_task(attach(restarted, order))
    second = await attached_to(runs, restarted, other)
    assert is_suspended(runs, order)
    let_go(runs, other)
    assert (await second).output == "done\n"
    done, _ = await asyncio.wait({attached}, timeout=0.6)
    assert not done
    assert is_suspended(runs, order)

    await restarted.resume(KEY)
    let_go(runs, order)
    result = await attached
    assert (result.output, result.starts) == ("done\n", 1)


async def test_a_lifted_order_is_honoured_by_who_attaches_next(runs: Bench) -> None:
    runs.shell(AGENT)
    order = runs.order()
    await killed_worker(runs, order.run_id)
    host = runs.host()
    await host.suspend(KEY)
    await until(lambda: is_suspended(runs, order))
    assert await host.resume(KEY) == (order.run_id,)
    assert is_suspended(runs, order)  # nobody is attached who could ask for a slot

    let_go(runs, order)

    assert (await attach(runs.host(), order)).output == "done\n"


async def test_an_order_without_its_signal_is_made_up_for_by_who_attaches(runs: Bench) -> None:
    runs.shell(AGENT)
    order = runs.order()
    await killed_worker(runs, order.run_id)
    path = runs.home / ORDERS / KEY
    path.parent.mkdir(parents=True)
    path.touch()  # a worker was killed before it came to tell the supervisors

    attached = asyncio.create_task(attach(runs.host(), order))
    await until(lambda: is_suspended(runs, order))

    path.unlink()
    let_go(runs, order)
    assert (await attached).output == "done\n"


async def test_a_run_continues_though_the_signal_to_do_so_was_lost(runs: Bench) -> None:
    runs.shell(AGENT)
    order = runs.order()
    await killed_worker(runs, order.run_id)
    host = runs.host()
    await host.suspend(KEY)
    await until(lambda: is_suspended(runs, order))

    with runs.directory(order).file(records.SUSPENSIONS).open("a") as file:
        file.write(f"{records.now()}\n")  # and the worker was killed before it sent the signal
    (runs.home / ORDERS / KEY).unlink()

    await until(lambda: moves(runs, order))
    let_go(runs, order)
    assert (await attach(runs.host(), order)).output == "done\n"


async def test_what_died_suspended_without_a_worker_is_pre_empted_and_leaves_nothing(
    runs: Bench,
) -> None:
    runs.shell(AGENT)
    order = runs.order()
    await killed_worker(runs, order.run_id)
    await runs.host().suspend(KEY)
    await until(lambda: is_suspended(runs, order))
    processes = family(runs, order)
    supervisor = runs.directory(order).identity()["supervisor"]
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: not is_running(supervisor))

    host = runs.host()
    await host.resume(KEY)
    result = await attach(host, order)

    assert (result.end, result.pre_empted, result.starts) == (RunEnd.LOST, True, 1)
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


async def test_an_agent_survives_many_suspensions_and_killed_workers_started_once(
    runs: Bench,
) -> None:
    order = runs.order()
    await killed_worker(runs, order.run_id)
    for _ in range(5):
        await runs.host().suspend(KEY)
        await until(lambda: is_suspended(runs, order))
        await runs.host().resume(KEY)
        await killed_worker(runs, order.run_id)
        host = runs.host()
        attached = asyncio.create_task(attach(host, order))
        await until(lambda: moves(runs, order))
        attached.cancel()
        await asyncio.wait({attached})

    let_go(runs, order)
    result = await attach(runs.host(), order)

    assert (result.output, result.starts, result.pre_empted) == ("done\n", 1, False)
    assert len(runs.directory(order).path.joinpath("pids").read_text().split()) == 1
