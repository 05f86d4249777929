"""Agent runs of a temporary state directory: real processes, ended after each test."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.processes import end_processes
from adapters.runs.directory import RUNS, RunDirectory
from adapters.runs.host import HostRuns
from adapters.runs.kinds import leftovers
from adapters.runs.resources import RunResources
from adapters.runs.slots import SlotLimit
from pipeline.agents_file import Agent, AgentsFile, CommandAgent
from pipeline.model import RunOrder, RunResult, SlotRequest
from pipeline.ports import StartListener
from tests.eventually import eventually

PORTS = "20000-32759"


@dataclass(frozen=True)
class Order(RunOrder):
    """An order with its place among those who wait for a slot."""

    priority: int = 2
    remaining_minutes: float = 60.0

    @property
    def slot(self) -> SlotRequest:
        return SlotRequest(self.run_id, self.priority, self.remaining_minutes)


async def attach(host: HostRuns, order: Order, on_start: StartListener | None = None) -> RunResult:
    """Start the run if it was never started, as the stage's activity does, and wait for its end."""
    while True:
        async with host.slot(order.slot) as has_slot:
            part = await host.next_part(order.run_id)
            if part is None or (has_slot and await host.start(order)):
                break
        if has_slot:
            await host.until_resumed(order.run_id)
        else:
            await host.queue(order.slot)
            await host.wait_for_slot(order.slot)
    return await (host.attach(order.slot, on_start) if on_start else host.attach(order.slot))


async def follow(host: HostRuns, order: Order) -> RunResult:
    """What the stage's activity does, without its gates: a session that was cut off goes on."""
    while (result := await attach(host, order)).is_resumable:
        await host.let_resume(order.run_id, result.parts)
        async with host.slot(order.slot):
            await host.start(order)
    return result


@dataclass
class Bench:
    """A state directory, its agents file and orders for them."""

    home: Path
    agents: dict[str, Agent] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    minute_seconds: float = 0.0
    limit: int = 4
    ports: str = PORTS

    def shell(self, script: str, *, agent: str = "roy", names: tuple[str, ...] = ()) -> None:
        self.agents[agent] = CommandAgent(("sh", "-c", script), names)

    def host(self) -> HostRuns:
        file = AgentsFile("agents.toml", self.home, self.agents, {}, self.minute_seconds)
        limit, resources = SlotLimit(self.home, self.limit), RunResources(self.home, self.ports)
        return HostRuns(self.home, lambda: file, limit, self.environment, resources)

    def order(self, **changes: object) -> Order:
        order = replace(_ORDER, **changes)  # type: ignore[arg-type] # the fields of the caller
        run_id = f"{order.number}/wf-1/{order.stage}/{order.attempt}"
        return replace(order, run_id=run_id)

    def directory(self, order: RunOrder) -> RunDirectory:
        return RunDirectory.of(self.home, order.run_id)

    def let_go(self, order: RunOrder) -> None:
        """Let an agent end that waits for that, also one that has not started yet."""
        run = self.directory(order)
        run.create()
        run.path.joinpath("go").touch()

    async def run(self, script: str, **changes: object) -> RunResult:
        self.shell(script)
        return await attach(self.host(), self.order(**changes))

    def all_runs(self) -> list[RunDirectory]:
        return [RunDirectory(path, "") for path in self.home.glob(f"{RUNS}/*/*/*")]


_ORDER = Order(
    run_id="",
    number="REQ-1",
    stage="Backend Implementation",
    agent="roy",
    attempt=1,
    minutes=60.0,
    deadline=timedelta(hours=2),
    grace=timedelta(0),
    prompt="Do it.",
    worktree="",
)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that must come true."""
    await eventually(condition, "it")


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path.resolve() / "home")
    bench.home.mkdir()
    yield bench
    for run in bench.all_runs():
        end_processes(lambda run=run: leftovers(run))  # type: ignore[misc] # bound per run
