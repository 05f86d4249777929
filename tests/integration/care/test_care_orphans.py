"""Runs and processes that have outlived what they were for: real agents, real supervisors."""

import asyncio
import json
import os
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

from adapters.care.orphans import OrphanedProcesses, OrphanedRuns
from adapters.runs.directory import RunDirectory
from pipeline.model import RunEnd
from tests.care import KnownRequirements, a_run, sleeper
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_runs import Bench, Order, attach, is_running, until

AGENT = "echo $$ > pid; setsid sleep 300 & echo $! > child; touch at_work; sleep 300"


def care_of(runs: Bench, known: KnownRequirements) -> OrphanedRuns:
    return OrphanedRuns(runs.home, known, runs.host())


async def at_work(runs: Bench, number: str = "REQ-1") -> RunDirectory:
    """An agent at work to which no worker is attached."""
    runs.shell(AGENT)
    order: Order = runs.order(number=number)
    attached = asyncio.create_task(attach(runs.host(), order))
    run = runs.directory(order)
    await until(lambda: run.path.joinpath("at_work").exists() and "agent" in run.identity())
    attached.cancel()
    # A look that is under way would see to a dead supervisor before the care does.
    await asyncio.wait({attached})
    return run


def pids(run: RunDirectory) -> list[int]:
    return [int(run.path.joinpath(name).read_text()) for name in ("pid", "child")]


def stray(directory: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A process of that run which nobody is the parent of any more."""
    return sleeper({"AGOG_RUN_DIR": str(directory)})


def ended_before(run: RunDirectory, seconds: float) -> None:
    os.utime(run.file("exit.json"), (time.time() - seconds,) * 2)


async def test_the_run_of_an_ended_requirement_is_ended(runs: Bench) -> None:
    run, other = await at_work(runs), await at_work(runs, "REQ-2")
    known = KnownRequirements()
    known.end("REQ-1", timedelta(minutes=2))
    care = care_of(runs, known)

    assert await care.look() == {run.run_id: "its requirement has ended"}
    said = await care.end(run.run_id)

    assert "its requirement has ended" in said
    assert run.result().end is RunEnd.CANCELLED
    assert not any(map(is_running, pids(run)))
    assert all(map(is_running, pids(other)))
    assert await care.look() == {}


async def test_a_run_that_is_being_ended_with_its_requirement_is_left_to_that(runs: Bench) -> None:
    run = await at_work(runs)
    known = KnownRequirements()
    known.end("REQ-1", timedelta(seconds=30))
    care = care_of(runs, known)

    assert await care.look() == {}
    assert "no orphan any more" in await care.end(run.run_id)

    assert all(map(is_running, pids(run)))


async def test_what_a_dead_supervisor_left_is_ended_and_its_open_requirement_may_try_again(
    runs: Bench,
) -> None:
    run = await at_work(runs)
    os.kill(run.identity()["supervisor"], signal.SIGKILL)
    care = care_of(runs, KnownRequirements())
    await until(lambda: not is_running(run.identity()["supervisor"]))
    assert all(map(is_running, pids(run)))

    assert await care.look() == {run.run_id: "its supervisor is dead"}
    said = await care.end(run.run_id)

    assert "recorded the run as lost" in said
    # Lost, not cancelled: the stage is run again, and nobody is blamed for it.
    assert run.result().end is RunEnd.LOST
    assert not any(map(is_running, pids(run)))
    assert "no orphan any more" in await care.end(run.run_id)


async def test_a_supervisor_of_another_process_namespace_is_known_by_its_lock(runs: Bench) -> None:
    run = await at_work(runs)
    identity = {**run.identity(), "boot": "of another container"}
    run.file("identity.json").write_text(json.dumps(identity))

    assert await care_of(runs, KnownRequirements()).look() == {}


async def test_a_run_that_was_ordered_and_not_started_is_no_orphan(runs: Bench) -> None:
    a_run(runs.home, "REQ-1/wf-1/Research/1", ended=False)

    assert await care_of(runs, KnownRequirements()).look() == {}


async def test_processes_of_a_run_that_is_over_are_ended(runs: Bench) -> None:
    over = a_run(runs.home, "REQ-1/wf-1/Research/1")
    living = await at_work(runs, "REQ-2")
    ended_before(over, seconds=20)
    care = OrphanedProcesses(runs.home, KnownRequirements())

    with stray(over.path) as process, sleeper({}) as bystander:
        (name,) = await care.look()
        said = await care.end(name)

        assert name == "REQ-1/wf-1/research-1"
        assert said == f"Ended 1 processes of {name}, a run that is over."
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
        assert await care.look() == {}
        assert all(map(is_running, [*pids(living), bystander.pid]))


async def test_a_supervisor_that_has_just_recorded_the_end_may_leave_by_itself(runs: Bench) -> None:
    over = a_run(runs.home, "REQ-1/wf-1/Research/1")
    care = OrphanedProcesses(runs.home, KnownRequirements())

    with stray(over.path) as process:
        assert await care.look() == {}
        assert "no run that is over" in await care.end("REQ-1/wf-1/research-1")
        assert process.poll() is None


async def test_a_process_whose_directory_is_gone_is_ended_with_its_requirement_alone(
    runs: Bench,
) -> None:
    known = KnownRequirements()
    care = OrphanedProcesses(runs.home, known)

    with stray(runs.home / "runs/REQ-1/wf-1/research-1") as process:
        assert await care.look() == {}
        known.end("REQ-1")
        (name,) = await care.look()
        await care.end(name)
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


async def test_a_process_of_another_state_directory_is_no_business_of_this_one(
    runs: Bench, tmp_path: Path
) -> None:
    over = a_run(tmp_path / "other", "REQ-1/wf-1/Research/1")
    ended_before(over, seconds=20)

    with stray(over.path):
        assert await OrphanedProcesses(runs.home, KnownRequirements()).look() == {}
