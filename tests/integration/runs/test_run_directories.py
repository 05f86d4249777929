"""What an agent may do to the directory that it was told of, while no worker looks."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.runs import kinds
from pipeline.answers import read_run
from pipeline.model import FailureKind, RunEnd
from tests.eventually import wait_until
from tests.fixtures_runs import Bench, Order, attach, is_running, until
from tests.fixtures_workspaces import stage_request

AGENT = """
cd /
echo $$ >> {0}/starts
until test -e {0}/do; do sleep 0.02; done
{1}
touch {0}/done
until test -e {0}/go; do sleep 0.02; done
echo answered
"""
DEEDS = {
    "delete": 'rm -rf "$AGOG_RUN_DIR"',
    "move": 'mv "$AGOG_RUN_DIR" "$AGOG_RUN_DIR.moved"',
    "parents": 'rm -rf "$AGOG_RUN_DIR/../../.."',
    "empty": 'find "$AGOG_RUN_DIR" -mindepth 1 -delete',
    "lock": 'rm -f "$AGOG_RUN_DIR"/lock "$AGOG_RUN_DIR"/identity.json',
    "started": 'rm -f "$AGOG_RUN_DIR"/started "$AGOG_RUN_DIR"/order.json',
    "output": 'rm -f "$AGOG_RUN_DIR"/stdout "$AGOG_RUN_DIR"/deadline',
    "forbid": 'chmod 000 "$AGOG_RUN_DIR"',
}


def signs(runs: Bench) -> Path:
    """Where the agent says what it does, out of its run directory."""
    path = runs.home / "signs"
    path.mkdir(exist_ok=True)
    return path


def starts(runs: Bench) -> list[int]:
    file = signs(runs) / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def left_alone(runs: Bench, order: Order, deed: str, records: Callable[[], None]) -> None:
    """Start the agent, stop attending to it, and let it do its deed."""
    runs.shell(AGENT.format(signs(runs), deed))
    attached = asyncio.create_task(attach(runs.host(), order))
    await until(lambda: len(starts(runs)) == 1 and "agent" in runs.directory(order).identity())
    attached.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attached
    signs(runs).joinpath("do").touch()
    await until(lambda: signs(runs).joinpath("done").exists())
    records()


def untouched() -> None:
    """Our records stay as they are."""


@pytest.mark.parametrize("deed", DEEDS)
async def test_agent_is_started_once_whatever_it_does_to_its_run_directory(
    runs: Bench, deed: str
) -> None:
    order = runs.order()
    await left_alone(runs, order, DEEDS[deed], untouched)

    attached = asyncio.create_task(attach(runs.host(), order))
    signs(runs).joinpath("go").touch()
    result = await attached

    assert (result.end, result.output, result.starts) == (RunEnd.EXITED, "answered\n", 1)
    assert len(starts(runs)) == 1


@pytest.mark.parametrize("names", [["lock"], ["started"], ["order.json"], ["identity.json"], []])
async def test_supervisor_is_found_without_its_records(runs: Bench, names: list[str]) -> None:
    """None named: all of them, with their folder."""
    order = runs.order()
    run = runs.directory(order)

    def remove() -> None:
        for name in names:
            run.file(name).unlink()
        if not names:
            shutil.rmtree(run.records_path)

    await left_alone(runs, order, "true", remove)

    for _ in range(2):  # a worker that is killed again
        attached = asyncio.create_task(attach(runs.host(), order))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(attached), 0.5)
        attached.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attached
    signs(runs).joinpath("go").touch()
    result = await attach(runs.host(), order)

    assert (result.end, result.output, result.starts) == (RunEnd.EXITED, "answered\n", 1)
    assert len(starts(runs)) == 1


async def test_supervisor_that_ends_while_it_is_looked_for_is_none(
    runs: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    monkeypatch.setattr("adapters.runs.kinds._find_supervisor", lambda run: ended.pid)
    order = runs.order(started_at=datetime(2026, 1, 1, tzinfo=UTC))
    runs.shell("echo answered")

    result = await attach(runs.host(), order)

    assert result.end is RunEnd.GONE


@pytest.mark.parametrize("name", ["lock", ""])
async def test_run_that_ends_while_its_supervisor_is_looked_for_keeps_its_end(
    runs: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without its lock, or without any record; an empty name means all of them."""
    run, supervisors = runs.directory(runs.order()), list[int]()

    def remove() -> None:
        supervisors.append(run.identity()["supervisor"])
        run.file(name).unlink() if name else shutil.rmtree(run.records_path)

    await left_alone(runs, runs.order(), "true", remove)
    place = "SupervisedRuns._unlocked" if name else "_find_supervisor"
    look = kinds.SupervisedRuns._unlocked if name else kinds._find_supervisor

    def look_late(*arguments: object) -> object:
        signs(runs).joinpath("go").touch()
        wait_until(lambda: not is_running(supervisors[0]), "its end")
        return look(*arguments)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(f"adapters.runs.kinds.{place}", look_late)
    order = runs.order(started_at=datetime(2026, 1, 1, tzinfo=UTC))

    result = await attach(runs.host(), order)

    assert (result.end, result.output, result.starts) == (RunEnd.EXITED, "answered\n", 1)
    assert len(starts(runs)) == 1


async def test_run_without_records_can_be_ended(runs: Bench) -> None:
    order = runs.order()
    run = runs.directory(order)
    await left_alone(runs, order, "true", lambda: shutil.rmtree(run.records_path))

    await runs.host().end(order.run_id)

    assert not [pid for pid in starts(runs) if is_running(pid)]
    assert (await attach(runs.host(), order)).end is RunEnd.CANCELLED


async def test_run_of_which_nothing_is_left_is_red_and_not_started_again(runs: Bench) -> None:
    order = runs.order(started_at=datetime(2026, 1, 1, tzinfo=UTC))
    run = runs.directory(order)
    first = runs.order()

    def kill_all() -> None:
        supervisor = run.identity()["supervisor"]
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not is_running(supervisor), "its end")  # else it would be found
        shutil.rmtree(run.records_path)

    await left_alone(runs, first, "true", kill_all)

    result = await attach(runs.host(), order)
    reading = read_run(stage_request(None), result)

    assert (result.end, result.starts) == (RunEnd.GONE, 1)
    assert reading.failure is not None
    assert reading.failure.kind is FailureKind.FAILED
    assert reading.failure.owners == ("roy",)
    assert len(starts(runs)) == 1
    assert not [pid for pid in starts(runs) if is_running(pid)]
