import asyncio
import json
from datetime import timedelta

import pytest

from adapters.runs.directory import RunDirectory
from pipeline.agents_file import CommandAgent
from pipeline.errors import UnknownRequirement
from pipeline.model import RunEnd
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_runs import Bench, Order, attach, is_running, until

STUBBORN = "trap '' TERM; echo $$ > pids; while :; do sleep 0.05; done"
CHILDREN = """
sleep 300 & echo $! > pids
setsid sleep 300 & echo $! >> pids
(setsid sh -c 'echo $$ >> pids; trap "" TERM; while :; do sleep 0.05; done' &) &
env -i setsid sh -c 'echo $$ >> pids; exec sleep 300' &
until [ "$(wc -l < pids)" = 4 ]; do sleep 0.01; done
"""
PIDS = "pids"


def pids(run: RunDirectory, expected: int) -> list[int]:
    """Process ids that the agent wrote down, once they are all there."""
    try:
        found = [int(line) for line in run.path.joinpath(PIDS).read_text().split()]
    except FileNotFoundError:
        return []
    return found if len(found) == expected else []


async def started(runs: Bench, order: Order, expected: int = 1) -> list[int]:
    run = runs.directory(order)
    await until(lambda: bool(pids(run, expected)))
    return pids(run, expected)


def living(processes: list[int]) -> list[int]:
    return [pid for pid in processes if is_running(pid)]


async def test_children_and_daemons_end_with_their_agent(runs: Bench) -> None:
    result = await runs.run(CHILDREN)

    assert (result.end, result.exit_code) == (RunEnd.EXITED, 0)
    assert living(pids(runs.directory(runs.order()), 4)) == []


async def test_a_run_ends_at_deadline_and_grace_though_it_ignores_sigterm(runs: Bench) -> None:
    result = await runs.run(STUBBORN, deadline=timedelta(seconds=0.3), grace=timedelta(seconds=0.2))

    assert (result.end, result.exit_code) == (RunEnd.TIMED_OUT, None)
    assert result.reason.startswith("ended 0.5 s after its start")
    assert living(pids(runs.directory(runs.order()), 1)) == []


async def test_an_answer_within_the_grace_is_accepted(runs: Bench) -> None:
    result = await runs.run(
        "sleep 0.4; echo late", deadline=timedelta(seconds=0.1), grace=timedelta(seconds=20)
    )

    assert (result.end, result.output) == (RunEnd.EXITED, "late\n")


async def test_an_extension_moves_the_deadline_of_a_running_agent(runs: Bench) -> None:
    runs.shell("echo $$ > pids; until test -e go; do sleep 0.01; done; echo done")
    deadline = timedelta(seconds=4)  # by then we must have seen it and moved its deadline
    order, host = runs.order(deadline=deadline), runs.host()
    attached = asyncio.create_task(attach(host, order))
    await started(runs, order)

    await host.extend(order.run_id, timedelta(minutes=1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(attached), 4.5)
    runs.let_go(order)

    assert (await attached).end is RunEnd.EXITED


async def test_only_a_running_run_can_be_extended(runs: Bench) -> None:
    host = runs.host()
    with pytest.raises(UnknownRequirement):
        await host.extend(runs.order().run_id, timedelta(minutes=1))
    await runs.run("true")
    with pytest.raises(UnknownRequirement):
        await host.extend(runs.order().run_id, timedelta(minutes=1))


async def test_ending_a_run_leaves_no_process_of_it(runs: Bench) -> None:
    runs.shell(CHILDREN + "sleep 300")
    order, host = runs.order(), runs.host()
    attached = asyncio.create_task(attach(host, order))
    processes = await started(runs, order, 4)

    await host.end(order.run_id)

    supervisor = runs.directory(order).identity()["supervisor"]
    assert living([*processes, supervisor]) == []
    result = await attached
    assert (result.end, result.starts) == (RunEnd.CANCELLED, 1)


async def test_ending_twice_changes_nothing(runs: Bench) -> None:
    first = await runs.run("echo kept")

    await runs.host().end(runs.order().run_id)

    assert await runs.run("echo again") == first


async def test_a_run_that_was_ended_before_it_started_is_never_started(runs: Bench) -> None:
    await runs.host().end(runs.order().run_id)

    result = await runs.run("touch started-all-the-same")

    assert (result.end, result.starts) == (RunEnd.CANCELLED, 0)
    assert not runs.directory(runs.order()).path.joinpath("started-all-the-same").exists()


async def test_a_cancelled_attach_leaves_the_agent_alone(runs: Bench) -> None:
    runs.shell("echo $$ > pids; until test -e go; do sleep 0.01; done; echo done")
    order = runs.order()
    attached = asyncio.create_task(attach(runs.host(), order))
    processes = await started(runs, order)

    attached.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attached

    assert living(processes) == processes
    runs.let_go(order)
    result = await attach(runs.host(), order)
    assert (result.output, result.starts) == ("done\n", 1)


async def test_an_end_is_seen_at_once(runs: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the end of its process, not by the next look."""
    monkeypatch.setattr("adapters.runs.host.TICK_SECONDS", 2 * PATIENCE_SECONDS)

    result = await asyncio.wait_for(runs.run("sleep 0.7"), PATIENCE_SECONDS)

    assert result.end is RunEnd.EXITED


async def test_a_supervisor_that_cannot_work_is_a_loss_and_not_a_hang(
    runs: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.runs.kinds._ENTRY", "no such file")
    runs.agents["roy"] = CommandAgent(("true",))
    order = runs.order()
    run = runs.directory(order)

    result = await attach(runs.host(), order)

    assert (result.end, result.starts) == (RunEnd.LOST, 0)
    assert "supervisor.log" in result.reason
    assert json.loads(run.file("exit.json").read_text())["end"] == "lost"
