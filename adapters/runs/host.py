"""The agents of this host: one port in front of run directories, kinds and permits."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from adapters.agents.command import command_environment, command_record
from adapters.agents.simulated import simulated_record
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from adapters.runs.kinds import RunKinds
from adapters.runs.looks import Ended, Fresh, Living, Standing, Start
from adapters.runs.slots import Slots
from adapters.runs.suspensions import Suspensions
from adapters.runs.turns import Turns
from adapters.runs.waiting import (
    TICK_SECONDS,
    appearance,
    end_of,
    in_thread,
    until_event,
)
from pipeline.agents_file import AgentsFile, SimulatedAgent
from pipeline.errors import AgentsFileRefused, UnknownRequirement
from pipeline.model import RunOrder, RunResult
from pipeline.ports import StartCheck, StartListener

PATIENCE_SECONDS = 15.0
"""After this a supervisor that was asked to end is ended itself: it has had its agent's grace."""

_ENDING_POLL_SECONDS = 0.05

MINUTE = timedelta(minutes=1)


async def _unheard(_: datetime) -> None:
    """Nobody listens."""


async def _unasked() -> None:
    """Nothing has changed while it waited."""


def _start_anyway() -> None:
    """Nothing prevents a start."""


class HostRuns:
    """Implements `pipeline.ports.AgentRuns`. One per state directory (see HomeLock)."""

    def __init__(
        self,
        home: Path,
        agents: AgentsFile,
        slots: Slots,
        environment: Mapping[str, str],
        check_start: Callable[[], None] = _start_anyway,
    ) -> None:
        """Count what lives in the state directory already.

        `environment` is what agents may be given; the agents file says who gets what. What
        `check_start` raises, asked in the moment of a start, prevents that start.

        Raises: RefusedInput if the slots cannot be read.
        """
        self._home = home.absolute()
        self._agents = agents
        self._environment = environment
        self._check_start = check_start
        self._kinds = RunKinds()
        self._suspensions = Suspensions(self._home)
        self._changed = asyncio.Event()
        self._turns = Turns(self._home, slots, self._kinds.look)

    @property
    def living(self) -> int:
        """How many agents hold a permit."""
        return self._turns.living

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started once: then it is never started again."""
        run = RunDirectory.of(self._home, run_id)
        return await in_thread(lambda: run.has(records.STARTED) or run.has(records.EXIT))

    async def attach(
        self,
        order: RunOrder,
        on_start: StartListener = _unheard,
        after_wait: StartCheck = _unasked,
    ) -> RunResult:
        """Find the run, starting it only if it was never started, and wait for its end.

        `on_start` is awaited once if the run is found living, `after_wait` when it has waited for
        its turn to start. Cancelled, it leaves the agent alone.

        Raises, only if the run is to be started: AgentsFileRefused if the agents file lacks its
            agent; what `after_wait` and the check of a start raise when it is its turn.
        """
        run = RunDirectory.of(self._home, order.run_id)
        was_started = is_told = False
        while True:
            changed = self._changed  # taken before the look: what comes after it is not missed
            seen = await in_thread(partial(self._observe, run))
            if isinstance(seen, RunResult):
                self._turns.free(order.run_id)
                return seen
            if isinstance(seen, Standing):
                await self._stand(run, order, seen, changed)
            elif isinstance(seen, Living):
                self._turns.adopt(order.run_id)
                is_told = is_told or await _tell_start(run, on_start)
                wait = end_of(seen) if is_told else appearance()
                await until_event(changed, wait)
            elif was_started:
                await in_thread(partial(self._kinds.supervised.give_up, run))
            else:
                was_started = await self._start(run, order, after_wait)

    async def end(self, run_id: str) -> None:
        """End the run's processes, all of them, and record it as cancelled; never start it."""
        run = RunDirectory.of(self._home, run_id)
        asked_at = monotonic()
        while True:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            asking = signal.SIGTERM if patient else signal.SIGKILL
            if await asyncio.to_thread(self._kinds.try_end, run, asking):
                self._turns.free(run_id)
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
        # Not before: while it holds, nothing of the execution is started behind our back.
        await asyncio.to_thread(self._suspensions.lift, key)
        return results

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start; standing still does not count.

        Raises: UnknownRequirement if it is not running.
        """
        run = RunDirectory.of(self._home, run_id)
        await asyncio.to_thread(_extend, run, deadline)

    async def suspend(self, key: str) -> tuple[str, ...]:
        """Let every run of an execution stand still until it is resumed; a repeat is harmless.

        Returns the ids of the living runs that stand still. Raises: RefusedInput for a bad key.
        """
        suspended = await in_thread(partial(self._suspend, key))
        for run_id in suspended:
            self._turns.free(run_id)
        self._tell_change()
        return suspended

    async def resume(self, key: str) -> tuple[str, ...]:
        """Let the runs of an execution go on, each as soon as who is attached has a permit.

        Returns the ids of the living runs that stood still. Raises: RefusedInput for a bad key.
        """
        standing = await in_thread(partial(self._resume, key))
        self._tell_change()
        return standing

    def _tell_change(self) -> None:
        """Let all who are attached look at once."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _suspend(self, key: str) -> tuple[str, ...]:
        self._suspensions.order(key)
        runs = _runs_of(self._home, key)
        return tuple(run.run_id for run in runs if isinstance(self._observe(run), Standing))

    def _resume(self, key: str) -> tuple[str, ...]:
        runs = (run for run in _runs_of(self._home, key) if run.is_suspended)
        standing = [run.run_id for run in runs if isinstance(self._kinds.look(run), Living)]
        self._suspensions.lift(key)
        return tuple(standing)

    def _observe(self, run: RunDirectory) -> RunResult | Fresh | Living | Standing:
        seen = self._kinds.look(run)
        if isinstance(seen, Ended):
            return run.result()
        is_ordered = self._suspensions.holds(run)
        if isinstance(seen, Fresh):
            return Standing(may_go_on=False) if is_ordered else seen
        return Standing(may_go_on=not is_ordered) if self._suspensions.heed(run) else seen

    async def _start(self, run: RunDirectory, order: RunOrder, after_wait: StartCheck) -> bool:
        """Wait for a permit and start the run with it; False if that is no longer called for."""
        start = self._starter(run, order)
        return await self._turns.take(
            run,
            order,
            is_wanted=lambda: isinstance(self._observe(run), Fresh),
            act=lambda: self._start_now(run, start),
            after_wait=after_wait,
        )

    def _start_now(self, run: RunDirectory, start: Start) -> bool:
        # Hours may have passed since the stage was opened: what held then may not hold now.
        self._check_start()
        return not self._suspensions.holds(run) and start()

    async def _stand(
        self, run: RunDirectory, order: RunOrder, seen: Standing, changed: asyncio.Event
    ) -> None:
        """Wait without a permit until the order is lifted; then for a permit, and go on."""
        self._turns.free(run.run_id)
        if not seen.may_go_on:
            return await until_event(changed, asyncio.sleep(TICK_SECONDS))
        await self._turns.take(
            run,
            order,
            is_wanted=lambda: self._observe(run) == seen,
            act=lambda: self._suspensions.go_on(run),
            after_wait=_unasked,
        )

    def _starter(self, run: RunDirectory, order: RunOrder) -> Start:
        agent = self._agents.agents.get(order.agent)
        if agent is None:
            key = f"agents.{order.agent}"
            raise AgentsFileRefused(self._agents.source, key, "missing, and its stage must run")
        if isinstance(agent, SimulatedAgent):
            record = simulated_record(agent, order, run, self._agents.minute_seconds)
            return partial(self._kinds.simulated.start, run, record)
        given = command_environment(agent, order, run, self._environment)
        record = command_record(agent, order, run, given)
        start = self._kinds.supervised.start
        return partial(start, run, record, order.prompt, given, order.started_at)


def _runs_of(home: Path, key: str) -> tuple[RunDirectory, ...]:
    return tuple(RunDirectory.of_execution(home, key))


async def _tell_start(run: RunDirectory, on_start: StartListener) -> bool:
    """Whether the agent was started: a supervisor lives a moment longer."""
    starts = await in_thread(run.starts)
    if starts:
        await on_start(starts[0])
    return bool(starts)


def _extend(run: RunDirectory, deadline: timedelta) -> None:
    record = run.order()
    if record is None or run.is_fresh or run.has(records.EXIT):
        raise UnknownRequirement(f"{run.run_id} is not running; nothing to extend.")
    run.write_deadline(deadline / MINUTE * record.minute_seconds)
