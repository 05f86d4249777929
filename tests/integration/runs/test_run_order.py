"""Who is next on a host, and how many live at once, seen on real agents."""

import asyncio
import logging

import pytest

from adapters.runs.host import HostRuns
from adapters.runs.slots import LOWERED, SLOTS, SlotLimit
from pipeline.model import RunResult
from tests.fixtures_runs import Bench, Order, attach, until
from tests.suspended_runs import AGENT, attached_to, let_go

WAITING = (("short", 2, 30), ("late", 2, 60), ("later", 2, 60), ("P1 short", 1, 5), ("P1", 1, 90))
"""Stage, priority and minutes to the end, in the order of arrival."""

SERVED = ["P0", "P1", "P1 short", "late", "later", "short"]


def a_claim(runs: Bench, stage: str, priority: int = 2, minutes: float = 60) -> Order:
    return runs.order(
        number=f"REQ-{stage.replace(' ', '-')}", priority=priority, remaining_minutes=minutes
    )


def has_started(runs: Bench, order: Order) -> bool:
    return runs.directory(order).path.joinpath("pids").exists()


async def waiting(host: HostRuns, order: Order) -> "asyncio.Task[RunResult]":
    """Attach, and wait until it is queued for a slot."""
    attached = asyncio.create_task(attach(host, order))
    await until(lambda: host.queue_place(order.run_id)[0] > 0)
    return attached


async def test_on_a_full_host_the_p0_that_comes_last_is_the_next_to_start(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 2
    host = runs.host()
    busy = [a_claim(runs, name) for name in ("busy-1", "busy-2")]
    tasks = [await attached_to(runs, host, order) for order in busy]
    queue = [a_claim(runs, *claim) for claim in (*WAITING, ("P0", 0, 1.0))]
    tasks += [await waiting(host, order) for order in queue]
    living, served = list(busy), list[str]()

    while queue:
        let_go(runs, living.pop(0))
        await until(lambda: any(has_started(runs, order) for order in queue))
        [started] = [order for order in queue if has_started(runs, order)]
        queue.remove(started)
        living.append(started)
        served.append(started.number.removeprefix("REQ-").replace("-", " "))
    for order in living:
        let_go(runs, order)
    await asyncio.gather(*tasks)

    assert served == SERVED


async def test_a_run_that_continues_takes_its_place_by_priority_and_path(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    host = runs.host()
    order, p0 = a_claim(runs, "suspended", 2, 60), a_claim(runs, "P0", 0)
    before, after = a_claim(runs, "before", 1, 5), a_claim(runs, "after", 2, 30)
    tasks = [await attached_to(runs, host, order)]
    await host.suspend("REQ-suspended/wf-1")
    tasks += [await attached_to(runs, host, p0)]
    tasks += [await waiting(host, claim) for claim in (after, before)]
    await host.resume("REQ-suspended/wf-1")
    await until(lambda: host.queue_place(order.run_id)[0] > 0)

    let_go(runs, p0)
    await until(lambda: has_started(runs, before))
    assert runs.directory(order).is_suspended
    let_go(runs, before)
    await until(lambda: not runs.directory(order).is_suspended)
    assert not has_started(runs, after)
    for claim in (order, after):
        let_go(runs, claim)
    await asyncio.gather(*tasks)


async def test_a_higher_limit_starts_who_waits_and_holds_after_a_restart(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    host = runs.host()
    orders = [a_claim(runs, name) for name in "abc"]
    tasks = [await attached_to(runs, host, orders[0])]
    tasks += [await waiting(host, order) for order in orders[1:]]

    SlotLimit(runs.home, 1).set(2)
    await until(lambda: any(has_started(runs, order) for order in orders[1:]))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    host = runs.host()
    tasks = [asyncio.create_task(attach(host, order)) for order in orders]
    done, _ = await asyncio.wait(tasks, timeout=1.2)
    assert not done
    assert [has_started(runs, order) for order in orders] == [True, True, False]

    for order in orders:
        let_go(runs, order)
    await asyncio.gather(*tasks)


async def test_a_claim_follows_the_limit_at_once(runs: Bench) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    host = runs.host()
    first, second = a_claim(runs, "first"), a_claim(runs, "second")
    tasks = [await attached_to(runs, host, first)]

    SlotLimit(runs.home, 1).set(2)
    tasks += [await attached_to(runs, host, second)]

    for order in (first, second):
        let_go(runs, order)
    await asyncio.gather(*tasks)


async def test_agents_above_a_lowered_limit_end_by_themselves_before_another_starts(
    runs: Bench,
) -> None:
    runs.shell(AGENT)
    runs.limit = 3
    host, slots = runs.host(), SlotLimit(runs.home, 3)
    first, second, third, fourth = (a_claim(runs, name) for name in ("1st", "2nd", "3rd", "4th"))
    tasks = [await attached_to(runs, host, order) for order in (first, second, third)]
    slots.lower(2, "memory is short")
    tasks += [await waiting(host, fourth)]

    let_go(runs, first)
    await tasks[0]
    done, _ = await asyncio.wait(tasks[1:], timeout=1.2)
    assert not done
    assert not has_started(runs, fourth)
    slots.restore()
    await until(lambda: has_started(runs, fourth))

    for order in (second, third, fourth):
        let_go(runs, order)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("name", [SLOTS, LOWERED])
async def test_a_limit_that_cannot_be_read_changes_nothing_and_is_told_once(
    runs: Bench, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs.shell(AGENT)
    runs.limit = 1
    host = runs.host()
    first, second = a_claim(runs, "first"), a_claim(runs, "second")
    tasks = [await attached_to(runs, host, first)]
    (runs.home / name).write_text("many")

    with caplog.at_level(logging.ERROR):
        tasks += [await waiting(host, second)]
        done, _ = await asyncio.wait(tasks, timeout=1.2)
    assert not done
    told = [each.getMessage() for each in caplog.records if each.name == "agog.runs"]
    assert [name in each for each in told] == [True]
    let_go(runs, first)
    await until(lambda: has_started(runs, second))
    let_go(runs, second)
    await asyncio.gather(*tasks)
