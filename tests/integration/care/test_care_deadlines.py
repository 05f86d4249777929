"""Runs near their deadline: real agents that get on, or do not."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.care.deadlines import DeadlineCare
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from adapters.runs.host import HostRuns
from adapters.runs.suspensions import Suspensions
from pipeline.agents_file import SimulatedAgent
from pipeline.errors import PermanentError, TransientError
from pipeline.model import Alert, AlertKind
from pipeline.runbook import CHECK_INTERVAL, RUNBOOK
from tests.care import subjects
from tests.eventually import eventually, eventually_async
from tests.fixtures_runs import Bench, Order, attach, until

DEADLINE = timedelta(hours=2)
PRINTS = "while :; do echo word; sleep 0.05; done"
WRITES = (
    "cd $AGOG_WORKTREE; mkdir -p deep/down; while :; do date > deep/down/file; sleep 0.05; done"
)
COMPUTES = "while :; do :; done"


@dataclass
class House:
    """A host with one agent at work, and whoever moves its deadline."""

    bench: Bench
    host: HostRuns
    order: Order
    asked: list[tuple[str, float, str]] = field(default_factory=list)
    error: TransientError | None = None

    @property
    def run(self) -> RunDirectory:
        return self.bench.directory(self.order)

    def care(self) -> DeadlineCare:
        return DeadlineCare(self.bench.home, self.extend)

    async def extend(self, run_id: str, minutes: float, reason: str) -> None:
        if self.error:
            raise self.error
        self.asked.append((run_id, minutes, reason))
        await self.host.extend(run_id, self.deadline + timedelta(minutes=minutes))

    @property
    def deadline(self) -> timedelta:
        record = self.run.order()
        assert record
        return timedelta(seconds=self.run.deadline_seconds(record))

    def leave(self, left: timedelta) -> None:
        """Let so much time have passed that this is left; the supervisor counts by itself."""
        started = datetime.now(UTC) - self.deadline + left
        self.run.file(records.STARTED).write_text(f"{started.isoformat()}\n")


async def at_work(runs: Bench, script: str, **changes: object) -> House:
    runs.shell(script)
    house = House(runs, runs.host(), runs.order(**{"deadline": DEADLINE, **changes}))
    attached = asyncio.create_task(attach(house.host, house.order))
    await until(lambda: "agent" in house.run.identity())
    attached.cancel()
    return house


def apply_preemption(house: House) -> None:
    """Suspend it as a P0 does that pre-empts."""
    orders = Suspensions(house.bench.home)
    orders.order(execution_of(house))
    assert orders.carry_out(house.run)


def proceed(house: House) -> None:
    orders = Suspensions(house.bench.home)
    orders.withdraw(execution_of(house))
    assert orders.resume(house.run)


def execution_of(house: House) -> str:
    number, workflow_run, *_ = house.order.run_id.split("/")
    return f"{number}/{workflow_run}"


def untouched(tmp_path: Path) -> str:
    """A worktree in which nobody has written for a long time."""
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    for path in (worktree / "file", worktree):
        path.touch()
        os.utime(path, (0, 0))
    return str(worktree)


def silence(run: RunDirectory, seconds: float) -> None:
    """Let the run have printed its last word that long ago."""
    for name in (records.STDOUT, records.STDERR):
        os.utime(run.file(name), (time.time() - seconds,) * 2)


async def alert_of(care: DeadlineCare) -> Alert:
    found: list[Alert] = []

    async def is_found() -> bool:
        found.extend(await care.look())
        return bool(found)

    await eventually_async(is_found, "the alert")
    return found[0]


@pytest.mark.parametrize(
    ("script", "sign"),
    [(PRINTS, "it prints"), (WRITES, "it writes files"), (COMPUTES, "it computes")],
)
async def test_a_run_that_gets_on_is_extended_by_half_of_its_deadline(
    runs: Bench, tmp_path: Path, script: str, sign: str
) -> None:
    house = await at_work(runs, script, worktree=untouched(tmp_path))
    house.leave(timedelta(minutes=4))
    care = house.care()

    alert = await alert_of(care)
    said = await care.act(alert)

    assert (alert.kind, alert.component) == (AlertKind.RUN_NEAR_DEADLINE, "run")
    assert alert.subject == house.order.run_id
    left, _, seen = alert.detail.partition(" minutes are left, and ")
    assert 3 < float(left) <= 4
    assert seen == sign
    ((run_id, minutes, reason),) = house.asked
    assert (run_id, minutes) == (house.order.run_id, 60.0)
    assert "extension 1 of 2" in reason
    assert "by 60 minutes" in said
    assert house.deadline == timedelta(hours=3)
    assert await care.look() == ()


async def test_a_run_without_progress_is_left_to_its_deadline(runs: Bench, tmp_path: Path) -> None:
    house = await at_work(runs, "echo begun; sleep 300", worktree=untouched(tmp_path))
    await eventually(lambda: house.run.file("stdout").stat().st_size > 0, "a word")
    silence(house.run, seconds=601)
    house.leave(timedelta(minutes=4))
    care = house.care()
    near = Alert(AlertKind.RUN_NEAR_DEADLINE, "run", house.order.run_id)

    looks = [await care.look() for _ in range(5)]

    assert looks == [()] * 5
    assert "makes no progress" in await care.act(near)
    assert house.asked == []


@pytest.mark.parametrize("left", [timedelta(minutes=10, seconds=30), timedelta(hours=1)])
async def test_a_run_with_time_left_is_no_alert(runs: Bench, left: timedelta) -> None:
    house = await at_work(runs, PRINTS)
    await eventually(lambda: house.run.file("stdout").stat().st_size > 0, "a word")
    house.leave(left)

    assert await house.care().look() == ()


@pytest.mark.parametrize("minutes", [10, 15, 30, 120])
async def test_a_run_is_seen_for_one_check_at_least_and_two_where_there_is_time(
    runs: Bench, minutes: int
) -> None:
    given = timedelta(minutes=minutes)
    house = await at_work(runs, PRINTS, deadline=given)
    await eventually(lambda: house.run.file("stdout").stat().st_size > 0, "a word")
    house.leave(min(2 * CHECK_INTERVAL, given / 2) - timedelta(seconds=5))

    assert subjects(await house.care().look()) == [house.order.run_id]
    assert given / 2 >= CHECK_INTERVAL


def test_an_extension_that_failed_is_tried_again_by_the_next_check() -> None:
    assert RUNBOOK[AlertKind.RUN_NEAR_DEADLINE].again <= CHECK_INTERVAL / 2


async def test_a_run_in_its_grace_may_still_be_extended(runs: Bench) -> None:
    house = await at_work(runs, PRINTS, grace=timedelta(minutes=5))
    house.leave(timedelta(minutes=-2))

    assert (await alert_of(house.care())).subject == house.order.run_id


async def test_a_run_is_extended_twice_and_no_more(runs: Bench) -> None:
    house = await at_work(runs, PRINTS)
    for _ in range(2):
        house.leave(timedelta(minutes=4))
        care = house.care()  # the count outlives the worker
        alert = await alert_of(care)
        await care.act(alert)

    house.leave(timedelta(minutes=4))

    assert await house.care().look() == ()
    with pytest.raises(PermanentError, match="extended 2 times"):
        await house.care().act(alert)
    assert house.deadline == 2 * DEADLINE


async def test_a_repeated_treatment_extends_once(runs: Bench) -> None:
    house = await at_work(runs, PRINTS)
    house.leave(timedelta(minutes=4))
    care = house.care()
    alert = await alert_of(care)

    await care.act(alert)
    said = await care.act(alert)

    assert "not near its deadline any more" in said
    assert len(house.asked) == 1


async def test_an_extension_that_failed_is_not_counted(runs: Bench) -> None:
    house = await at_work(runs, PRINTS)
    house.leave(timedelta(minutes=4))
    care = house.care()
    alert = await alert_of(care)
    house.error = TransientError("Not now.")
    for _ in range(3):
        with pytest.raises(TransientError):
            await care.act(alert)
    house.error = None

    await care.act(alert)

    assert "extension 1 of 2" in house.asked[0][2]


async def test_time_that_a_run_stood_still_is_not_used_up(runs: Bench) -> None:
    house = await at_work(runs, PRINTS)
    await eventually(lambda: house.run.file("stdout").stat().st_size > 0, "a word")
    apply_preemption(house)
    house.leave(timedelta(hours=-1))  # it began three hours ago
    before = datetime.now(UTC) - timedelta(hours=2, minutes=30)
    house.run.file(records.SUSPENSIONS).write_text(f"{before.isoformat()}\n")

    assert await house.care().look() == ()
    proceed(house)

    assert await house.care().look() == ()  # 2 h - (3 h - 2.5 h) = 1.5 h are left


async def test_suspended_simulated_and_ended_runs_have_no_deadline_to_look_at(runs: Bench) -> None:
    house = await at_work(runs, PRINTS)
    house.leave(timedelta(minutes=4))
    await alert_of(house.care())
    runs.agents["jen"] = SimulatedAgent(60.0, {})
    runs.minute_seconds = 60.0
    simulated = House(runs, runs.host(), runs.order(agent="jen", stage="Frontend"))
    attached = asyncio.create_task(attach(simulated.host, simulated.order))
    await until(lambda: simulated.run.has("started"))
    simulated.leave(timedelta(minutes=4))
    attached.cancel()
    apply_preemption(house)

    assert await house.care().look() == ()

    proceed(house)
    assert subjects(await house.care().look()) == [house.order.run_id]
    await house.host.end(house.order.run_id)
    assert await house.care().look() == ()
