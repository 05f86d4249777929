"""The agents of this host: the port in front of run directories, kinds of runs and slots."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from weakref import WeakValueDictionary

from adapters.agent_programs import PROGRAMS
from adapters.runs import records
from adapters.runs.directory import AGAIN, RunDirectory
from adapters.runs.kinds import (
    MINUTE,
    SIMULATED,
    Ended,
    Fresh,
    Living,
    SimulatedRuns,
    Status,
    SupervisedRuns,
    command_environment,
    command_record,
    simulated_record,
)
from adapters.runs.program_starts import answer_start, program_start
from adapters.runs.resources import RunResources
from adapters.runs.slots import TICK_SECONDS, SlotLimit, Slots
from adapters.runs.suspensions import Suspensions
from adapters.waiting import in_thread, until_ended, until_event
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import CurrentAgents, SimulatedAgent
from pipeline.answers import why_ask_again
from pipeline.errors import AgentsFileRefused, UnknownRequirement
from pipeline.model import Head, RunEnd, RunOrder, RunResult, SlotRequest, SlotUsage
from pipeline.ports import StartListener

PATIENCE_SECONDS = 15.0
"""After this a supervisor that was asked to end is killed: longer than its agent's own grace."""

_ENDING_POLL_SECONDS = 0.05
_SHORT_SECONDS = 0.02

Start = Callable[[], bool]
"""Starts a run; False if another caller was faster, or it must not be started any more."""


@dataclass(frozen=True)
class Suspended:
    """The run is suspended, or would be if it were started.

    `may_resume` says that the order is withdrawn, so that only a slot is missing.
    """

    may_resume: bool


async def _unheard(at: datetime, head: Head | None) -> None:
    """Ignore the start."""


class HostRuns:
    """Implements `pipeline.ports.AgentRuns`. One per state directory (see home_lock)."""

    def __init__(
        self,
        home: Path,
        agents: CurrentAgents,
        limit: SlotLimit,
        environment: Mapping[str, str],
        resources: RunResources,
    ) -> None:
        """Count the runs that live in the state directory already.

        `environment` is what agents may be given; the agents file says which gets what.

        Raises: RefusedInput if the limit of slots cannot be read.
        """
        self._home = home.absolute()
        self._agents = agents
        self._environment = environment
        self._resources = resources
        self._supervised = SupervisedRuns()
        self._simulated = SimulatedRuns()
        self._suspensions = Suspensions(self._home)
        self._changed = asyncio.Event()
        living = (run.run_id for run in RunDirectory.living(self._home) if not run.is_suspended)
        self._slots = Slots(limit, living, self._has_ended)
        self._starts: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._queued: set[str] = set()
        """Runs that were queued in the block of a slot which is still open."""

    @property
    def used(self) -> int:
        """How many slots are used."""
        return self._slots.used

    @property
    def sweeps(self) -> int:
        """How often it looked for ended runs because others wait for a slot."""
        return self._slots.sweeps

    def remove_leftovers(self) -> None:
        """Remove temporary directories that a killed worker has left; only for the one worker."""
        living = RunDirectory.living(self._home)
        self._resources.keep_only(run.run_id.removesuffix(AGAIN) for run in living)

    # --- starting -------------------------------------------------------------------------------

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started or is about to be: it is never started again."""
        run = RunDirectory.of(self._home, run_id)
        return await in_thread(lambda: not isinstance(self._look(run), Fresh))

    @asynccontextmanager
    async def slot(self, request: SlotRequest) -> AsyncIterator[bool]:
        """Hold a slot for the block, to start the run with; False if none is free.

        Another caller for the same run waits until the block has ended. A run that was started in
        the block keeps the slot.
        """
        run = RunDirectory.of(self._home, request.run_id)
        async with self._starts.setdefault(request.run_id, asyncio.Lock()):
            has_slot = self._slots.take(request)
            if not has_slot:  # at once: a slot that comes free on its way here may be its
                self._slots.expect(request)
            try:
                yield has_slot
            finally:
                if has_slot:
                    self._settle(run)
                    if not run.has(records.ORDER):  # what its clone was prepared with
                        await in_thread(partial(self._resources.release, run.run_id))
                elif request.run_id in self._queued:
                    self._queued.remove(request.run_id)
                else:
                    self._slots.withdraw(request.run_id)

    async def queue(self, request: SlotRequest) -> None:
        """Note that the run waits for a slot, in Temporal's queue or here.

        Called in the block of `slot` when none was free. A full waiting room sends a less urgent
        run out for it.
        """
        run = RunDirectory.of(self._home, request.run_id)
        await in_thread(run.mark_queued)
        self._queued.add(request.run_id)

    async def wait_for_slot(self, request: SlotRequest) -> None:
        """Wait until a slot is reserved for the run, which the caller then takes.

        Also returns without one if a more urgent run needs the place, or the run must not be
        started any more. Then ask again.
        """
        await self._slots.wait(request)

    def queue_place(self, run_id: str) -> tuple[int, SlotUsage]:
        """The place of the run among those that wait on this host, and how many slots are used."""
        return self._slots.place(run_id), self._slots.usage

    def usages(self) -> AsyncIterator[SlotUsage]:
        """How many slots are used, whenever it changes while a run waits for one."""
        return self._slots.usages()

    async def start(self, order: RunOrder) -> bool:
        """Start the run with the slot that is held; False if it must not be started now.

        Raises: AgentsFileRefused if the agents file lacks its agent.
        """
        run = RunDirectory.of(self._home, order.run_id)
        start = self._starter(run, order)
        return await in_thread(lambda: not self._suspensions.is_ordered(run) and start())

    async def until_resumed(self, run_id: str) -> None:
        """Return when the run's execution has no order to suspend."""
        await self._until_ordered(run_id, is_ordered=False)

    async def until_suspended(self, run_id: str) -> None:
        """Return when the run's execution has one."""
        await self._until_ordered(run_id, is_ordered=True)

    async def _until_ordered(self, run_id: str, *, is_ordered: bool) -> None:
        run = RunDirectory.of(self._home, run_id)
        while True:
            changed = self._changed
            if await in_thread(partial(self._suspensions.is_ordered, run)) is is_ordered:
                return
            await changed.wait()

    async def attach(self, request: SlotRequest, on_start: StartListener = _unheard) -> RunResult:
        """Wait for the end of a run that was started.

        `on_start` is awaited once if the run is found living. A cancelled caller leaves the agent
        alone.
        """
        run = RunDirectory.of(self._home, request.run_id)
        self._slots.attach(request.run_id)
        try:
            result = await self._follow(run, request, on_start)
        finally:
            self._slots.detach(request.run_id)
        await in_thread(partial(self._resources.release, request.run_id))
        return result

    # --- steering -------------------------------------------------------------------------------

    async def end(self, run_id: str) -> RunResult:
        """End every process of the run, record it as cancelled, and never start it.

        Returns how it ended, without its output.
        """
        run = RunDirectory.of(self._home, run_id)
        if await in_thread(lambda: _may_be_asked_again(run)):
            await self.end(run.again.run_id)
        asked_at = monotonic()
        while True:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            asking = signal.SIGTERM if patient else signal.SIGKILL
            if await asyncio.to_thread(self._try_end, run, asking):
                self._slots.withdraw(run_id)
                self._slots.free(run_id)
                await asyncio.to_thread(self._resources.release, run_id)
                return await asyncio.to_thread(run.result, limit=0)
            await asyncio.sleep(_ENDING_POLL_SECONDS)

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution, also those that no activity is attached to any more.

        Returns how each run that this host knows ended, by run id, without its output.
        """
        runs = await asyncio.to_thread(_runs_of, self._home, key)
        for run in runs:
            if not run.has(records.EXIT):
                await self.end(run.run_id)
        results = {
            run.run_id: await asyncio.to_thread(run.result, limit=0)
            for run in runs
            if not run.is_again
        }
        # Only now: while the order stands, nothing of the execution is started behind our back.
        await asyncio.to_thread(self._suspensions.withdraw, key)
        await asyncio.to_thread(RunDirectory.forget_queued, self._home, key)
        self._slots.withdraw(key)
        self._tell_change()
        return results

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start without the time it was suspended.

        Raises: UnknownRequirement if it is not running.
        """
        run = RunDirectory.of(self._home, run_id)
        await asyncio.to_thread(_extend, run, deadline)

    async def suspend(self, key: str) -> tuple[str, ...]:
        """Suspend every run of an execution until it is resumed; a repeat is harmless.

        Returns the ids of the living runs that are suspended. Raises: RefusedInput for a bad key.
        """
        suspended = await in_thread(partial(self._suspend, key))
        for run_id in suspended:
            self._slots.free(run_id)
        self._tell_change()
        return suspended

    async def resume(self, key: str) -> tuple[str, ...]:
        """Resume the runs of an execution, each once its attached caller has a slot.

        Returns the ids of the living runs that were suspended. Raises: RefusedInput for a bad key.
        """
        suspended = await in_thread(partial(self._resume, key))
        self._tell_change()
        return suspended

    # --- following a run ------------------------------------------------------------------------

    async def _follow(
        self, run: RunDirectory, request: SlotRequest, on_start: StartListener
    ) -> RunResult:
        is_told = False
        while True:
            changed = self._changed  # taken before the look, so that no later change is missed
            seen = await in_thread(partial(self._observe, run))
            if isinstance(seen, RunResult):
                if await in_thread(partial(self._asks_again, run, seen)):
                    again = replace(request, run_id=run.again.run_id)
                    self._slots.adopt(again.run_id)
                    self._slots.free(run.run_id)
                    await self._follow(run.again, again, _unheard)
                    seen = await in_thread(run.result)
                self._slots.free(run.run_id)
                return seen
            if isinstance(seen, Suspended):
                await self._wait_to_resume(run, request, seen, changed)
            elif isinstance(seen, Living):
                self._slots.adopt(run.run_id)
                is_told = is_told or await _tell_start(run, on_start)
                await until_event(changed, _end_of(seen) if is_told else _appearance())
            else:
                await in_thread(partial(self._supervised.give_up, run))

    def _asks_again(self, run: RunDirectory, result: RunResult) -> bool:
        """Whether the run's program is being asked once more for its answer; starts that once.

        It is asked in the session and the clone of its work, whichever worker has seen its end.
        """
        record = run.order()
        if record is None or result.report is None or run.is_again or run.has(records.CANCELLED):
            return False
        if run.again.is_recorded:
            return not run.again.has(records.EXIT)
        number = run.run_id.partition("/")[0]
        refusal = why_ask_again(result.report, record.agent, number)
        agent = self._agents().agents.get(record.agent)
        if not refusal or result.end is not RunEnd.EXITED or not isinstance(agent, ProgramAgent):
            return False
        session = result.report.session
        made = answer_start(agent, run, session, refusal, self._environment)
        if made is None:
            return False
        start = partial(self._supervised.start, files=made.files, resources=self._resources)
        start(run.again, made.record, made.prompt, made.environment)
        return True

    async def _wait_to_resume(
        self, run: RunDirectory, request: SlotRequest, seen: Suspended, changed: asyncio.Event
    ) -> None:
        """Wait without a slot until the order is withdrawn; then wait for a slot and resume."""
        self._slots.free(run.run_id)
        if not seen.may_resume:
            return await until_event(changed, asyncio.sleep(TICK_SECONDS))
        waiting = asyncio.create_task(self._slots.wait(request, resumes=True))
        try:
            # A run that was suspended again, or ended from outside, wants no slot any more.
            while not waiting.done() and await in_thread(lambda: self._observe(run) == seen):
                await asyncio.wait({waiting}, timeout=TICK_SECONDS)
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})  # an error of the wait is of no interest here
        if self._slots.take(request):
            try:
                await in_thread(
                    lambda: self._observe(run) == seen and self._suspensions.resume(run)
                )
            finally:
                self._settle(run)

    def _settle(self, run: RunDirectory) -> None:
        # The disk knows: a start that was cancelled half-way may have happened.
        is_living = run.is_recorded and not run.is_fresh and not run.is_suspended
        if not is_living:
            run.file(records.QUEUED).unlink(missing_ok=True)
        self._slots.settle(run.run_id, is_living=is_living and not run.has(records.EXIT))

    def _tell_change(self) -> None:
        """Let every attached caller look at once."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _suspend(self, key: str) -> tuple[str, ...]:
        self._suspensions.order(key)
        runs = _runs_of(self._home, key)
        return tuple(run.run_id for run in runs if isinstance(self._observe(run), Suspended))

    def _resume(self, key: str) -> tuple[str, ...]:
        runs = (run for run in _runs_of(self._home, key) if run.is_suspended)
        suspended = [run.run_id for run in runs if isinstance(self._kind(run).look(run), Living)]
        self._suspensions.withdraw(key)
        return tuple(suspended)

    def _observe(self, run: RunDirectory) -> RunResult | Fresh | Living | Suspended:
        seen = self._look(run)
        if isinstance(seen, Ended):
            return run.result()
        if isinstance(seen, Fresh):
            return seen
        is_suspended = self._suspensions.carry_out(run)
        return Suspended(may_resume=not self._suspensions.is_ordered(run)) if is_suspended else seen

    def _look(self, run: RunDirectory) -> Status:
        # Looking at a run that nobody has asked for yet leaves no trace.
        return self._kind(run).look(run) if run.is_recorded else Fresh()

    def _kind(self, run: RunDirectory) -> SupervisedRuns | SimulatedRuns:
        """The kind that the run was started as, whatever the agents file says today."""
        record = run.order()
        return self._simulated if record and record.kind == SIMULATED else self._supervised

    def _try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        return self._kind(run).try_end(run, asking)

    def _has_ended(self, run_id: str) -> bool:
        run = RunDirectory.of(self._home, run_id)
        return not isinstance(self._look(run), Living) or run.is_suspended

    def _starter(self, run: RunDirectory, order: RunOrder) -> Start:
        agents = self._agents()
        agent = agents.agents.get(order.agent)
        if agent is None:
            key = f"agents.{order.agent}"
            raise AgentsFileRefused(agents.source, key, "missing, and its stage must run")
        if isinstance(agent, SimulatedAgent):
            record = simulated_record(agent, order, run, agents.minute_seconds)
            return partial(self._simulated.start, run, record, order.prompt)
        start = partial(self._supervised.start, resources=self._resources)
        if isinstance(agent, ProgramAgent):
            made = program_start(agent, order, run, self._environment)
            return partial(
                start, run, made.record, made.prompt, made.environment, order.started_at, made.files
            )
        given = command_environment(agent, order, run, self._environment)
        record = command_record(agent, order, run, given)
        return partial(start, run, record, order.prompt, given, order.started_at)


def _may_be_asked_again(run: RunDirectory) -> bool:
    """Whether its program is, or will be, asked once more for its answer unless that is ended."""
    record = run.order()
    return record is not None and record.kind in PROGRAMS and not run.is_again


def _runs_of(home: Path, key: str) -> tuple[RunDirectory, ...]:
    return tuple(RunDirectory.of_execution(home, key))


async def _end_of(seen: Living) -> None:
    """Return when the run may have ended, after a tick at the latest."""
    if seen.process is not None:
        await until_ended(seen.process, TICK_SECONDS)
    elif seen.seconds is not None:
        await asyncio.sleep(min(seen.seconds, TICK_SECONDS))
    else:
        await _appearance()


async def _appearance() -> None:
    """Wait the moment that a supervisor takes to record its identity."""
    await asyncio.sleep(_SHORT_SECONDS)


async def _tell_start(run: RunDirectory, on_start: StartListener) -> bool:
    """Whether the agent was started: its supervisor lives a moment before that."""
    starts = await in_thread(run.starts)
    if starts:
        order = await in_thread(run.order)
        await on_start(starts[0], Head(*order.head) if order and order.head else None)
    return bool(starts)


def _extend(run: RunDirectory, deadline: timedelta) -> None:
    record = run.order()
    if record is None or run.is_fresh or run.has(records.EXIT):
        raise UnknownRequirement(f"{run.run_id} is not running; nothing to extend.")
    run.write_deadline(deadline / MINUTE * record.minute_seconds)
