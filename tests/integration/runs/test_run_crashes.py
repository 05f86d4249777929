import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.locks import home_lock
from adapters.runs.kinds import SupervisedRuns
from pipeline.errors import RefusedInput
from pipeline.model import RunEnd
from tests.fixtures_runs import Bench, Order, attach, is_running, until

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("small_worker.py")
SUPERVISE = ROOT / "adapters" / "supervise.py"
AGENT = "echo $$ >> pids; until test -e go; do sleep 0.02; done; echo done"


def small_worker(runs: Bench, *run_ids: str) -> subprocess.Popen[bytes]:
    """A process that attaches to runs as a worker does; `stdout` tells the results."""
    command = [sys.executable, str(WORKER), str(runs.home), str(runs.limit), *run_ids]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def bystander() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "300"], start_new_session=True)


def boot() -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id} {os.readlink('/proc/self/ns/pid')}"


def lock_holder(home: Path) -> subprocess.Popen[bytes]:
    """Another worker process that has the state directory."""
    program = (
        "import sys; from pathlib import Path; from adapters.locks import home_lock\n"
        "with home_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.communicate()


def agents_started(runs: Bench) -> list[int]:
    files = [run.path.joinpath("pids") for run in runs.all_runs()]
    return [int(pid) for file in files if file.exists() for pid in file.read_text().split()]


def agents_living(runs: Bench) -> list[int]:
    return [pid for pid in agents_started(runs) if is_running(pid)]


def release(runs: Bench) -> None:
    for run in runs.all_runs():
        run.path.joinpath("go").touch()


async def running(runs: Bench, order: Order) -> None:
    run = runs.directory(order)
    await until(lambda: run.path.joinpath("pids").exists() and "agent" in run.identity())


async def supervisor_left(runs: Bench, order: Order) -> None:
    """A supervisor ends a moment after it has recorded the end of its run."""
    supervisor = runs.directory(order).identity()["supervisor"]
    await until(lambda: not is_running(supervisor))


async def test_an_agent_outlives_killed_workers_and_is_started_once(runs: Bench) -> None:
    order = runs.order()
    for _ in range(3):
        worker = small_worker(runs, order.run_id)
        assert worker.stdout is not None
        assert await asyncio.to_thread(worker.stdout.readline) == b"attached\n"
        await running(runs, order)
        kill(worker)

    release(runs)
    worker = small_worker(runs, order.run_id)
    output, _ = await asyncio.to_thread(worker.communicate)

    assert output == b"attached\nexited 0 1 done\n"
    assert len(agents_started(runs)) == 1


async def test_an_agent_may_end_while_no_worker_lives(runs: Bench) -> None:
    order = runs.order()
    worker = small_worker(runs, order.run_id)
    await running(runs, order)
    kill(worker)
    release(runs)
    await until(lambda: runs.directory(order).has("exit.json"))

    result = await attach(runs.host(), order)

    assert (result.end, result.output, result.starts) == (RunEnd.EXITED, "done\n", 1)


async def test_a_killed_supervisor_is_a_loss_and_its_agents_processes_are_ended_first(
    runs: Bench,
) -> None:
    runs.shell(
        "setsid sleep 300 & echo $! >> pids; env -i sleep 300 & echo $! >> pids;"
        "echo $$ >> pids; sleep 300"
    )
    order, host = runs.order(), runs.host()
    attached = asyncio.create_task(attach(host, order))
    await until(lambda: len(agents_started(runs)) == 3)
    await running(runs, order)

    os.kill(runs.directory(order).identity()["supervisor"], signal.SIGKILL)
    result = await attached

    assert (result.end, result.exit_code, result.starts) == (RunEnd.LOST, None, 1)
    assert agents_living(runs) == []
    assert await attach(host, order) == result


async def test_a_recorded_process_number_of_somebody_else_is_left_alone(runs: Bench) -> None:
    other = bystander()
    order = runs.order()
    run = runs.directory(order)
    run.create()
    processes = dict.fromkeys(("supervisor", "agent", "group"), other.pid)
    created = dict.fromkeys(processes, 1)
    identity = {**processes, "created": created, "boot": boot()}
    run.file("identity.json").write_text(json.dumps(identity))
    run.file("started").write_text("2026-01-01T00:00:00+00:00\n")

    result = await attach(runs.host(), order)
    await runs.host().end(order.run_id)

    assert result.end is RunEnd.LOST
    assert other.poll() is None
    kill(other)


async def test_a_second_supervisor_refuses(runs: Bench) -> None:
    runs.shell(AGENT)
    order = runs.order()
    attached = asyncio.create_task(attach(runs.host(), order))
    await running(runs, order)
    command = [
        sys.executable,
        "-I",
        "-S",
        str(SUPERVISE),
        "run",
        str(runs.directory(order).records_path),
    ]

    second = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    release(runs)
    await attached
    await supervisor_left(runs, order)
    third = await asyncio.to_thread(subprocess.run, command, capture_output=True)

    assert (second.returncode, second.stderr) == (3, b"Another supervisor holds this run.\n")
    assert (third.returncode, third.stderr) == (3, b"This run was started before.\n")
    assert len(agents_started(runs)) == 1


async def test_two_attached_at_once_start_the_agent_once(runs: Bench) -> None:
    runs.shell("echo $$ >> pids; sleep 0.2; echo done")
    host = runs.host()

    results = await asyncio.gather(*(attach(host, runs.order()) for _ in range(8)))

    assert set(results) == {results[0]}
    assert len(agents_started(runs)) == 1


async def test_never_more_than_two_agents_live_also_after_a_killed_worker(runs: Bench) -> None:
    runs.limit = 2
    orders = [runs.order(number=f"REQ-{number}") for number in range(5)]
    run_ids = [order.run_id for order in orders]
    worker = small_worker(runs, *run_ids)
    await until(lambda: len(agents_living(runs)) == 2)
    kill(worker)
    survivors = agents_living(runs)

    # The restarted worker attaches to those first that never started.
    waiting = [o.run_id for o in orders if not runs.directory(o).has("started")]
    worker = small_worker(runs, *waiting, *(i for i in run_ids if i not in waiting))
    await until(lambda: "agent" in _any_identity(runs))
    await _stays(lambda: agents_living(runs) == survivors, seconds=1.5)
    most = 0
    while worker.poll() is None:
        most = max(most, len(agents_living(runs)))
        release(runs)
        await asyncio.sleep(0.005)

    output, _ = worker.communicate()
    assert output.count(b"exited 0 1 done") == 5
    assert most <= 2


async def test_a_slot_is_freed_by_the_end_of_a_run_that_nobody_waits_for(runs: Bench) -> None:
    runs.limit = 1
    first, second = runs.order(number="REQ-1"), runs.order(number="REQ-2")
    worker = small_worker(runs, first.run_id)
    await running(runs, first)
    kill(worker)

    runs.shell("echo second")
    attached = asyncio.create_task(attach(runs.host(), second))
    await _stays(lambda: not runs.directory(second).has("started"), seconds=1.0)
    release(runs)

    assert (await attached).output == "second\n"


async def test_a_state_directory_has_one_worker(runs: Bench) -> None:
    held = lock_holder(runs.home)
    assert held.stdout is not None
    held.stdout.readline()

    with pytest.raises(RefusedInput, match=f"process id {held.pid}"), home_lock(runs.home):
        pass

    kill(held)
    with (
        home_lock(runs.home),
        pytest.raises(RefusedInput, match=f"process id {os.getpid()}"),
        home_lock(runs.home),
    ):
        pass


def _any_identity(runs: Bench) -> dict[str, object]:
    return next((run.identity() for run in runs.all_runs() if run.identity()), {})


async def _stays(condition: Callable[[], bool], seconds: float) -> None:
    """The condition holds all the while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition()
        await asyncio.sleep(0.02)


async def test_a_supervisor_that_hangs_does_not_save_its_agent_from_the_end(runs: Bench) -> None:
    runs.shell(AGENT)
    order = runs.order()
    attached = asyncio.create_task(attach(runs.host(), order))
    await running(runs, order)
    run = runs.directory(order)
    os.kill(run.identity()["supervisor"], signal.SIGSTOP)

    supervised = SupervisedRuns()
    assert not supervised.try_end(run, signal.SIGTERM)
    assert not supervised.try_end(run, signal.SIGKILL)

    assert (await attached).end is RunEnd.CANCELLED
    assert supervised.try_end(run, signal.SIGTERM)
    assert agents_living(runs) == []
