"""The agents of this host: one port in front of run directories, kinds and permits."""

import asyncio
import signal
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from adapters.agents.command import command_environment, command_record
from adapters.agents.simulated import SIMULATED, simulated_record
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from adapters.runs.looks import Ended, Fresh, Living, Look, RunKind, Start
from adapters.runs.permits import Claim, Permits
from adapters.runs.simulated import SimulatedRuns
from adapters.runs.supervised import SupervisedRuns
from adapters.runs.waiting import (
    TICK_SECONDS,
    appearance,
    departure,
    in_thread,
)
from pipeline.agents_file import AgentsFile, SimulatedAgent
from pipeline.errors import AgentsFileRefused, UnknownRequirement
from pipeline.model import RunOrder, RunResult
from pipeline.ports import StartListener

PATIENCE_SECONDS = 15.0
"""After this a supervisor that was asked to end is ended itself: it has had its agent's grace."""

_ENDING_POLL_SECONDS = 0.05

MINUTE = timedelta(minutes=1)


async def _unheard(_: datetime) -> None:
    """Nobody listens."""


class HostRuns:
    """Implements `pipeline.ports.AgentRuns`. One per state directory (see HomeLock)."""

    def __init__(
        self, home: Path, agents: AgentsFile, permits: Permits, environment: Mapping[str, str]
    ) -> None:
        """Count what lives in the state directory already.

        `environment` is what agents may be given; the agents file says who gets what.
        """
        self._home = home.absolute()
        self._agents = agents
        self._permits = permits
        self._environment = environment
        self._supervised = SupervisedRuns()
        self._simulated = SimulatedRuns()
        self._swept_at = 0.0
        self._adopt()

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started once: then it is never started again."""
        run = RunDirectory.of(self._home, run_id)
        return await in_thread(lambda: run.has(records.STARTED) or run.has(records.EXIT))

    async def attach(self, order: RunOrder, on_start: StartListener = _unheard) -> RunResult:
        """Find the run, starting it only if it was never started, and wait for its end.

        `on_start` is awaited once if the run is found living. Cancelled, it leaves the agent alone.

        Raises: AgentsFileRefused if the run is to be started and the agents file lacks its agent.
        """
        run = RunDirectory.of(self._home, order.run_id)
        was_started = is_told = False
        while True:
            seen = await in_thread(partial(self._observe, run))
            if isinstance(seen, RunResult):
                self._permits.free(order.run_id)
                return seen
            if isinstance(seen, Living):
                self._permits.adopt(order.run_id)
                is_told = is_told or await _tell_start(run, on_start)
                await (_until_changed(seen) if is_told else appearance())
            elif was_started:
                await in_thread(partial(self._supervised.give_up, run))
            else:
                was_started = await self._start(run, order)

    async def end(self, run_id: str) -> None:
        """End the run's processes, all of them, and record it as cancelled; never start it."""
        run = RunDirectory.of(self._home, run_id)
        asked_at = monotonic()
        while True:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            asking = signal.SIGTERM if patient else signal.SIGKILL
            if await asyncio.to_thread(self._try_end, run, asking):
                self._permits.free(run_id)
                return
            await asyncio.sleep(_ENDING_POLL_SECONDS)

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution: also those that no activity is attached to any more.

        Returns how each run that this host knows has ended, by run id, without its output.
        """
        results = {}
        for run in await asyncio.to_thread(_runs_of, self._home, key):
            if not run.has(records.EXIT):
                await self.end(run.run_id)
            results[run.run_id] = await asyncio.to_thread(run.result, limit=0)
        return results

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start.

        Raises: UnknownRequirement if it is not running.
        """
        run = RunDirectory.of(self._home, run_id)
        await asyncio.to_thread(_extend, run, deadline)

    def _adopt(self) -> None:
        for run in RunDirectory.living(self._home):
            self._permits.adopt(run.run_id)

    def _kind(self, run: RunDirectory) -> RunKind:
        """The kind it was started as, whatever the agents file says today."""
        record = run.order()
        return self._simulated if record and record.kind == SIMULATED else self._supervised

    def _look(self, run: RunDirectory) -> Look:
        return self._kind(run).look(run)

    def _observe(self, run: RunDirectory) -> RunResult | Fresh | Living:
        seen = self._look(run)
        return run.result() if isinstance(seen, Ended) else seen

    def _try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        return self._kind(run).try_end(run, asking)

    async def _start(self, run: RunDirectory, order: RunOrder) -> bool:
        """Wait for a permit and start the run with it; False if that is no longer called for."""
        start = self._starter(run, order)
        claim = self._permits.claim(order.run_id, order.priority, order.remaining_minutes)
        try:
            if not await self._granted(claim, run):
                return False
            return await in_thread(start)
        finally:
            # Asked of the disk: a start that was cancelled half-way may have happened.
            self._permits.settle(claim, is_living=not run.is_fresh)

    async def _granted(self, claim: Claim, run: RunDirectory) -> bool:
        while not claim.granted.done():
            await self._sweep()
            await asyncio.wait({claim.granted}, timeout=TICK_SECONDS)
            seen = await in_thread(partial(self._look, run))
            if not isinstance(seen, Fresh):
                return False
        return True

    async def _sweep(self) -> None:
        """Free the permits of runs that ended while nobody was attached to them."""
        if monotonic() - self._swept_at < TICK_SECONDS:
            return
        self._swept_at = monotonic()
        for run_id in self._permits.living:
            run = RunDirectory.of(self._home, run_id)
            if not isinstance(await in_thread(partial(self._look, run)), Living):
                self._permits.free(run_id)

    def _starter(self, run: RunDirectory, order: RunOrder) -> Start:
        agent = self._agents.agents.get(order.agent)
        if agent is None:
            key = f"agents.{order.agent}"
            raise AgentsFileRefused(self._agents.source, key, "missing, and its stage must run")
        if isinstance(agent, SimulatedAgent):
            record = simulated_record(agent, order, run, self._agents.minute_seconds)
            return partial(self._simulated.start, run, record)
        given = command_environment(agent, order, run, self._environment)
        record = command_record(agent, order, run, given)
        return partial(self._supervised.start, run, record, order.prompt, given)


def _runs_of(home: Path, key: str) -> tuple[RunDirectory, ...]:
    return tuple(RunDirectory.of_execution(home, key))


async def _tell_start(run: RunDirectory, on_start: StartListener) -> bool:
    """Whether the agent was started: a supervisor lives a moment longer."""
    starts = await in_thread(run.starts)
    if starts:
        await on_start(starts[0])
    return bool(starts)


async def _until_changed(seen: Living) -> None:
    if seen.process is not None:
        await departure(seen.process, TICK_SECONDS)
    elif seen.seconds is not None:
        await asyncio.sleep(min(seen.seconds, TICK_SECONDS))
    else:
        await appearance()


def _extend(run: RunDirectory, deadline: timedelta) -> None:
    record = run.order()
    if record is None or run.is_fresh or run.has(records.EXIT):
        raise UnknownRequirement(f"{run.run_id} is not running; nothing to extend.")
    run.write_deadline(deadline / MINUTE * record.minute_seconds)
