"""Runs that are suspended: how tests make them, and see that they do."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from adapters.runs.host import HostRuns
from pipeline.model import RunResult
from tests.fixtures_runs import Bench, Order, attach, until

KEY = "REQ-1/wf-1"
AGENT = "echo $$ >> pids; until test -e go; do sleep 0.01; done; echo done"
FAMILY = """
beat() { echo "$1" >> pids; while :; do echo >> beats; sleep 0.01; done; }
beat $$ &
(setsid sh -c 'echo $$ >> pids; while :; do sleep 0.01; done' &) &
env -i sh -c 'echo $$ >> pids; exec sleep 300' &
until test -e go; do sleep 0.01; done; echo done
"""
DAEMON = "env -i setsid sh -c 'echo $$ >> pids; exec sleep 300' &"
Attached = asyncio.Task[RunResult]


def state(pid: int) -> str:
    """The kernel's letter: T is stopped; empty where there is no such process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it may end at any step of this
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, path.read_text().split())
    return found


def family(runs: Bench, order: Order) -> list[int]:
    """Every living process of the run but its supervisor."""
    found: list[int] = []
    frontier = [runs.directory(order).identity()["supervisor"]]
    while frontier:
        below = children(frontier.pop())
        found += below
        frontier += below
    return found


def is_suspended(runs: Bench, order: Order) -> bool:
    processes = family(runs, order)
    return bool(processes) and all(map(_is_still, processes))


def _is_still(pid: int) -> bool:
    """Stopped or ended; or in the middle of a vfork, waiting for a child that is stopped."""
    waits = state(pid) == "D" and "T" in map(state, children(pid))
    return waits or state(pid) in ("T", "Z", "")


def moves(runs: Bench, order: Order) -> bool:
    return "T" not in [state(pid) for pid in family(runs, order)]


async def attached_to(runs: Bench, host: HostRuns, order: Order, processes: int = 1) -> Attached:
    """Attach, and wait until the agent has said who it is."""
    attached = asyncio.create_task(attach(host, order))
    pids = runs.directory(order).path.joinpath("pids")
    await until(lambda: pids.exists() and len(pids.read_text().split()) == processes)
    await until(lambda: "agent" in runs.directory(order).identity())
    return attached


def stood_still(result: RunResult) -> timedelta:
    """How long of its time the run did not work."""
    assert result.started_at is not None
    assert result.ended_at is not None
    return result.ended_at - result.started_at - result.elapsed


def let_go(runs: Bench, order: Order) -> None:
    runs.let_go(order)


async def ended_after(host: HostRuns, runs: Bench, order: Order) -> RunResult:
    attached = await attached_to(runs, host, order)
    let_go(runs, order)
    return await attached
