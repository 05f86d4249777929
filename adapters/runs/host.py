"""The agents of this host: one port in front of run directories, kinds and slots."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from weakref import WeakValueDictionary

from adapters.runs import records
from adapters.runs.directory import RunDirectory
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
from adapters.runs.slot_limit import SlotLimit
from adapters.runs.slots import Slots
from adapters.runs.suspensions import Suspensions
from adapters.runs.waiting import (
    TICK_SECONDS,
    appearance,
    end_of,
    in_thread,
    until_event,
)
from pipeline.agents_file import AgentsFile, SimulatedAgent
from pipeline.errors import AgentsFileRefused, UnknownRequirement
from pipeline.model import Head, RunOrder, RunResult, SlotRequest, SlotUsage
from pipeline.ports import StartListener

PATIENCE_SECONDS = 15.0
"""After this a supervisor that was asked to end is ended itself: it has had its agent's grace."""

_ENDING_POLL_SECONDS = 0.05

Start = Callable[[], bool]
"""Starts a run; False if another caller was faster, or it must not be started any more."""


@dataclass(frozen=True)
class Suspended:
    """The run is suspended, or would be if it were started.

    `may_resume` says that the order is withdrawn, so that only a slot is missing.
    """

    may_resume: bool


async def _unheard(at: datetime, head: Head | None) -> None:
    """Nobody listens."""


class HostRuns:
    """Implements `pipeline.ports.AgentRuns`. One per state directory (see home_lock)."""

    def __init__(
        self, home: Path, agents: AgentsFile, limit: SlotLimit, environment: Mapping[str, str]
    ) -> None:
        """Count what lives in the state directory already.

        `environment` is what agents may be given; the agents file says who gets what.

        Raises: RefusedInput if the limit of slots cannot be read.
        """
        self._home = home.absolute()
        self._agents = agents
        self._environment = environment
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
        """How often it has looked after itself because somebody waits for a slot."""
        return self._slots.sweeps

    # --- starting -------------------------------------------------------------------------------

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started, or is about to be: it is never started again."""
        run = RunDirectory.of(self._home, run_id)
        return await in_thread(lambda: not isinstance(self._look(run), Fresh))

    @asynccontextmanager
    async def slot(self, request: SlotRequest) -> AsyncIterator[bool]:
        """Hold a slot to start the run with, for the block; False if none is free.

        Whoever asks for the same run meanwhile waits until the block has ended. A run that was
        started in it keeps the slot.
        """
        run = RunDirectory.of(self._home, request.run_id)
        async with self._starts.setdefault(request.run_id, asyncio.Lock()):
            has_slot = self._slots.take(request)
            if not has_slot:  # at once: what comes free until it is in the room may be its
                self._slots.expect(request)
            try:
                yield has_slot
            finally:
                if has_slot:
                    self._settle(run)
                elif request.run_id in self._queued:
                    self._queued.remove(request.run_id)
                else:
                    self._slots.withdraw(request.run_id)

    async def queue(self, request: SlotRequest) -> None:
        """Note that the run waits for a slot, which it does in Temporal's queue or here.

        It is called in the block of a slot that was not free. A full waiting room lets it in
        before who is less urgent.
        """
        run = RunDirectory.of(self._home, request.run_id)
        await in_thread(run.mark_queued)
        self._queued.add(request.run_id)

    async def wait_for_slot(self, request: SlotRequest) -> None:
        """Wait until a slot is kept for the run, which is then to be taken.

        It may also return without one: who is more urgent needs the place, or nothing is to be
        started any more. Then ask again.
        """
        await self._slots.wait(request)

    def queue_place(self, run_id: str) -> tuple[int, SlotUsage]:
        """The place of the run among those who wait on this host, and how many slots are used."""
        return self._slots.place(run_id), self._slots.usage

    def usages(self) -> AsyncIterator[SlotUsage]:
        """How many slots are used, whenever it changes while somebody waits for one."""
        return self._slots.usages()

    async def start(self, order: RunOrder) -> bool:
        """Start the run with the slot that is held; False if it may not be started now.

        Raises: AgentsFileRefused if the agents file lacks its agent.
        """
        run = RunDirectory.of(self._home, order.run_id)
        start = self._starter(run, order)
        return await in_thread(lambda: not self._suspensions.holds(run) and start())

    async def until_resumed(self, run_id: str) -> None:
        """Return when the run's execution has no order to be suspended."""
        run = RunDirectory.of(self._home, run_id)
        while True:
            changed = self._changed
            if not await in_thread(partial(self._suspensions.holds, run)):
                return
            await changed.wait()

    async def attach(self, request: SlotRequest, on_start: StartListener = _unheard) -> RunResult:
        """Wait for the end of a run that was started.

        `on_start` is awaited once if the run is found living. Cancelled, it leaves the agent alone.
        """
        run = RunDirectory.of(self._home, request.run_id)
        self._slots.attach(request.run_id)
        try:
            return await self._follow(run, request, on_start)
        finally:
            self._slots.detach(request.run_id)

    # --- steering -------------------------------------------------------------------------------

    async def end(self, run_id: str) -> RunResult:
        """End the run's processes, all of them, and record it as cancelled; never start it.

        Returns how it has ended, without its output.
        """
        run = RunDirectory.of(self._home, run_id)
        asked_at = monotonic()
        while True:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            asking = signal.SIGTERM if patient else signal.SIGKILL
            if await asyncio.to_thread(self._try_end, run, asking):
                self._slots.withdraw(run_id)
                self._slots.free(run_id)
                return await asyncio.to_thread(run.result, limit=0)
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
        await asyncio.to_thread(RunDirectory.forget_queued, self._home, key)
        self._slots.withdraw(key)
        self._tell_change()
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
            self._slots.free(run_id)
        self._tell_change()
        return suspended

    async def resume(self, key: str) -> tuple[str, ...]:
        """Let the runs of an execution go on, each as soon as who is attached has a slot.

        Returns the ids of the living runs that stood still. Raises: RefusedInput for a bad key.
        """
        standing = await in_thread(partial(self._resume, key))
        self._tell_change()
        return standing

    # --- how ------------------------------------------------------------------------------------

    async def _follow(
        self, run: RunDirectory, request: SlotRequest, on_start: StartListener
    ) -> RunResult:
        is_told = False
        while True:
            changed = self._changed  # taken before the look: what comes after it is not missed
            seen = await in_thread(partial(self._observe, run))
            if isinstance(seen, RunResult):
                self._slots.free(run.run_id)
                return seen
            if isinstance(seen, Suspended):
                await self._stand(run, request, seen, changed)
            elif isinstance(seen, Living):
                self._slots.adopt(run.run_id)
                is_told = is_told or await _tell_start(run, on_start)
                wait = end_of(seen) if is_told else appearance()
                await until_event(changed, wait)
            else:
                await in_thread(partial(self._supervised.give_up, run))

    async def _stand(
        self, run: RunDirectory, request: SlotRequest, seen: Suspended, changed: asyncio.Event
    ) -> None:
        """Wait without a slot until the order is lifted; then for a slot, and go on."""
        self._slots.free(run.run_id)
        if not seen.may_resume:
            return await until_event(changed, asyncio.sleep(TICK_SECONDS))
        waiting = asyncio.create_task(self._slots.wait(request, resumes=True))
        try:
            # Suspended again, or ended from outside, it is wanted no more.
            while not waiting.done() and await in_thread(lambda: self._observe(run) == seen):
                await asyncio.wait({waiting}, timeout=TICK_SECONDS)
        finally:
            await _cancelled(waiting)
        if self._slots.take(request):
            try:
                await in_thread(lambda: self._observe(run) == seen and self._suspensions.go_on(run))
            finally:
                self._settle(run)

    def _settle(self, run: RunDirectory) -> None:
        # Asked of the disk: a start that was cancelled half-way may have happened.
        is_living = run.is_recorded and not run.is_fresh and not run.is_suspended
        if not is_living:
            run.file(records.QUEUED).unlink(missing_ok=True)
        self._slots.settle(run.run_id, is_living=is_living and not run.has(records.EXIT))

    def _tell_change(self) -> None:
        """Let all who are attached look at once."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _suspend(self, key: str) -> tuple[str, ...]:
        self._suspensions.order(key)
        runs = _runs_of(self._home, key)
        return tuple(run.run_id for run in runs if isinstance(self._observe(run), Suspended))

    def _resume(self, key: str) -> tuple[str, ...]:
        runs = (run for run in _runs_of(self._home, key) if run.is_suspended)
        standing = [run.run_id for run in runs if isinstance(self._kind(run).look(run), Living)]
        self._suspensions.lift(key)
        return tuple(standing)

    def _observe(self, run: RunDirectory) -> RunResult | Fresh | Living | Suspended:
        seen = self._look(run)
        if isinstance(seen, Ended):
            return run.result()
        if isinstance(seen, Fresh):
            return seen
        is_suspended = self._suspensions.heed(run)
        return Suspended(may_resume=not self._suspensions.holds(run)) if is_suspended else seen

    def _look(self, run: RunDirectory) -> Status:
        # Nobody has asked for it to be started yet: looking leaves no trace.
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
        agent = self._agents.agents.get(order.agent)
        if agent is None:
            key = f"agents.{order.agent}"
            raise AgentsFileRefused(self._agents.source, key, "missing, and its stage must run")
        if isinstance(agent, SimulatedAgent):
            record = simulated_record(agent, order, run, self._agents.minute_seconds)
            return partial(self._simulated.start, run, record)
        given = command_environment(agent, order, run, self._environment)
        record = command_record(agent, order, run, given)
        start = self._supervised.start
        return partial(start, run, record, order.prompt, given, order.started_at)


def _runs_of(home: Path, key: str) -> tuple[RunDirectory, ...]:
    return tuple(RunDirectory.of_execution(home, key))


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """End the task; what it raises is nobody's business."""
    task.cancel()
    await asyncio.wait({task})


async def _tell_start(run: RunDirectory, on_start: StartListener) -> bool:
    """Whether the agent was started: a supervisor lives a moment longer."""
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
