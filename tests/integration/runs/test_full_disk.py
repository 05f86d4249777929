"""The disk of the state directory is full while agents run, end, are cancelled, or would start."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.processes import end_processes
from adapters.runs.kinds import leftovers
from adapters.runs.records import OUTPUT_LIMIT
from pipeline.model import RunEnd
from tests.fixtures_runs import Bench, Order, attach, is_running, until
from tests.full_disk import SmallDisk, small_disk

AGENT = """
cd /
echo $$ >> {0}/starts
echo before
until test -e {0}/go; do sleep 0.02; done
{1}
echo after
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 16) as disk:
        yield disk


@pytest.fixture
def runs(disk: SmallDisk) -> Iterator[Bench]:
    """A state directory on the small disk."""
    bench = Bench(disk.path.resolve() / "home")
    bench.home.mkdir()
    yield bench
    for run in bench.all_runs():
        end_processes(lambda run=run: leftovers(run))  # type: ignore[misc] # bound per run


async def in_flight(runs: Bench, signs: Path, deed: str = "") -> tuple[Order, asyncio.Task]:  # type: ignore[type-arg]
    """An agent that has printed a line, and who waits for it."""
    runs.shell(AGENT.format(signs, deed))
    order = runs.order()
    attached = asyncio.create_task(attach(runs.host(), order))
    stdout = runs.directory(order).file("stdout")
    await until(lambda: stdout.exists() and stdout.read_text() == "before\n")
    return order, attached


def starts(signs: Path) -> list[int]:
    file = signs / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def test_agent_that_ends_on_a_full_disk_is_not_lost(
    runs: Bench, disk: SmallDisk, tmp_path: Path
) -> None:
    order, attached = await in_flight(runs, tmp_path, f"touch {tmp_path}/ends")
    disk.fill()
    (tmp_path / "go").touch()
    await until((tmp_path / "ends").exists)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(attached), 1.0)

    disk.empty()
    result = await attached

    assert (result.end, result.exit_code, result.starts) == (RunEnd.EXITED, 0, 1)
    assert result.output == "before\nafter\n"
    assert await attach(runs.host(), order) == result
    assert len(starts(tmp_path)) == 1


async def test_worker_may_be_killed_while_a_result_waits_for_room(
    runs: Bench, disk: SmallDisk, tmp_path: Path
) -> None:
    order, attached = await in_flight(runs, tmp_path)
    disk.fill()
    attached.cancel()
    (tmp_path / "go").touch()
    await until(lambda: not is_running(starts(tmp_path)[0]))
    again = asyncio.create_task(attach(runs.host(), order))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(again), 1.0)

    disk.empty()

    result = await again
    assert (result.output, result.starts) == ("before\nafter\n", 1)
    assert len(starts(tmp_path)) == 1


async def test_long_answer_on_a_full_disk_is_whole(
    runs: Bench, disk: SmallDisk, tmp_path: Path
) -> None:
    _, attached = await in_flight(runs, tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x; echo")
    disk.fill()
    (tmp_path / "go").touch()
    await until(lambda: not is_running(starts(tmp_path)[0]))

    disk.empty()
    result = await attached

    assert result.exit_code == 0
    assert len(result.output) == len("before\n\nafter\n") + 3_000_000
    assert len(result.output) < OUTPUT_LIMIT


async def test_agent_does_not_start_on_a_full_disk_and_is_not_counted(
    runs: Bench, disk: SmallDisk, tmp_path: Path
) -> None:
    runs.shell(f"echo $$ >> {tmp_path}/starts; echo done")
    order = runs.order()
    run = runs.directory(order)
    run.create()
    disk.fill()

    with pytest.raises(OSError, match="No space left"):
        await attach(runs.host(), order)

    assert not (tmp_path / "starts").exists()
    assert not run.has("started")
    disk.empty()
    result = await attach(runs.host(), order)
    assert (result.output, result.starts, len(starts(tmp_path))) == ("done\n", 1, 1)


async def test_agent_can_be_cancelled_on_a_full_disk(
    runs: Bench, disk: SmallDisk, tmp_path: Path
) -> None:
    order, attached = await in_flight(runs, tmp_path)
    disk.fill()
    ending = asyncio.create_task(runs.host().end(order.run_id))
    await until(lambda: not is_running(starts(tmp_path)[0]))

    disk.empty()
    await ending

    assert (await attached).end is RunEnd.CANCELLED


async def test_deadline_holds_on_a_full_disk(runs: Bench, disk: SmallDisk, tmp_path: Path) -> None:
    runs.shell(f"echo $$ >> {tmp_path}/starts; echo before; sleep 600")
    order = runs.order(deadline=timedelta(seconds=2))
    attached = asyncio.create_task(attach(runs.host(), order))
    await until(lambda: bool(starts(tmp_path)))
    disk.fill()
    await until(lambda: not is_running(starts(tmp_path)[0]))

    disk.empty()

    assert (await attached).end is RunEnd.TIMED_OUT
