"""The agents of this host: the port in front of run directories, kinds of runs and slots."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from weakref import WeakValueDictionary

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.stream import session_of
from adapters.runs import records
from adapters.runs.directory import ANSWER, RESUMED, RunDirectory
from adapters.runs.inventory import requirement_of
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
from adapters.runs.program_starts import (
    Copied,
    ProgramStart,
    answer_start,
    copied_session,
    program_start,
    resumed_start,
)
from adapters.runs.resources import RunResources
from adapters.runs.slots import TICK_SECONDS, SlotLimit, Slots
from adapters.runs.suspensions import Suspensions
from adapters.waiting import in_thread, until_ended, until_event
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import CurrentAgents, SimulatedAgent
from pipeline.answers import why_ask_again
from pipeline.endings import may_resume, why_cut_off
from pipeline.errors import AgentsFileRefused, UnknownRequirement
from pipeline.model import (
    Head,
    RunEnd,
    RunOrder,
    RunResult,
    RunStart,
    SlotRequest,
    SlotUsage,
)
from pipeline.ports import StartListener

PATIENCE_SECONDS = 15.0
"""After this a supervisor that was asked to end is killed: longer than its agent's own grace."""

log = logging.getLogger("agog.runs")

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


async def _unheard(start: RunStart) -> None:
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
        parts = RunDirectory.living(self._home)
        living = (part.first.run_id for part in parts if not part.is_suspended)
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
        self._resources.keep_only(run.first.run_id for run in living)

    # --- starting -------------------------------------------------------------------------------

    async def next_part(self, run_id: str) -> int | None:
        """Which part of the run is to be started: 0 is its agent, from 1 on its session is resumed.

        None if the agent was started or is about to be: it is never started again.
        """
        return await in_thread(partial(self._next_part, RunDirectory.of(self._home, run_id)))

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

    async def let_resume(self, run_id: str, parts: int) -> None:
        """Let the session of a run that was cut off after so many parts go on: `start` does that.

        If another caller was faster, nothing changes.
        """
        run = RunDirectory.of(self._home, run_id)
        await in_thread(lambda: run.numbered(parts).file(records.RESUMES).touch())

    async def start(self, order: RunOrder) -> bool:
        """Start the run with the slot that is held, or resume its session where that is to go on.

        False if it must not be started now. Raises: AgentsFileRefused if the agents file lacks its
        agent.
        """
        return await in_thread(
            partial(self._start, RunDirectory.of(self._home, order.run_id), order)
        )

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

        `on_start` is awaited if the run is found living, and once more if its session becomes known
        later. A cancelled caller leaves the agent alone.
        """
        run = RunDirectory.of(self._home, request.run_id)
        self._slots.attach(request.run_id)
        try:
            while True:
                followed = await self._follow(run, request, on_start)
                if result := await in_thread(partial(self._with_resumption, run, followed)):
                    break
        finally:
            self._slots.detach(request.run_id)
        await in_thread(partial(self._resources.release, request.run_id))
        return result

    # --- steering -------------------------------------------------------------------------------

    async def end(self, run_id: str) -> RunResult:
        """End every process of the run, record it as cancelled, and never start it.

        Returns how it ended, without its output.
        """
        run = RunDirectory.of(self._home, run_id).first
        last = run.last
        if await in_thread(lambda: _may_go_on(last)):
            await self._end_part(last.following)
        await self._end_part(last)
        self._slots.withdraw(run.run_id)
        self._slots.free(run.run_id)
        await asyncio.to_thread(self._resources.release, run.run_id)
        return await asyncio.to_thread(run.result, limit=0)

    async def _end_part(self, part: RunDirectory) -> None:
        """End a part of a run, or keep it from its start; whatever follows must have been before.

        Else a session that goes on meanwhile would be missed.
        """
        asked_at = monotonic()
        while True:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            asking = signal.SIGTERM if patient else signal.SIGKILL
            if await asyncio.to_thread(self._try_end, part, asking):
                return
            await asyncio.sleep(_ENDING_POLL_SECONDS)

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution, also those that no activity is attached to any more.

        Returns how each run that this host knows ended, by run id, without its output.
        """
        runs = await asyncio.to_thread(_runs_of, self._home, key)
        for run in runs:
            if not run.last.has(records.EXIT):
                await self.end(run.run_id)
        results = {run.run_id: await asyncio.to_thread(run.result, limit=0) for run in runs}
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
        told: RunStart | None = None
        while True:
            changed = self._changed  # taken before the look, so that no later change is missed
            seen = await in_thread(partial(self._observe, run))
            if isinstance(seen, RunResult):
                if await in_thread(partial(self._asks_again, run, seen)):
                    continue
                self._slots.free(run.run_id)
                return seen
            if isinstance(seen, Suspended):
                await self._wait_to_resume(run, request, seen, changed)
            elif isinstance(seen, Living):
                self._slots.adopt(run.run_id)
                told = await _tell_start(run, on_start, told)
                await until_event(changed, _end_of(seen) if told else _appearance())
            else:
                await in_thread(lambda: self._supervised.give_up(run.last))

    def _asks_again(self, run: RunDirectory, result: RunResult) -> bool:
        """Whether the run's program is asked once more for its answer now; starts that once.

        It is asked in the session and the clone of its work, whichever worker has seen its end.
        """
        last = run.last
        record = last.order()
        if record is None or result.report is None or last.has(records.CANCELLED):
            return False
        refusal = why_ask_again(result.report, record.member, requirement_of(run.run_id))
        agent = self._agents().agent(record.agent)
        if not refusal or result.end is not RunEnd.EXITED or not isinstance(agent, ProgramAgent):
            return False
        if any(part.purpose == ANSWER for part in run.parts()):
            return False
        session = result.report.session
        made = answer_start(agent, last, session, refusal, self._environment)
        if made is not None:
            self._start_next(last, made)
        return made is not None

    def _start_next(self, last: RunDirectory, made: ProgramStart) -> bool:
        """Start the part after the last one; False if another caller was faster."""
        start = partial(self._supervised.start, files=made.files, resources=self._resources)
        return start(last.following, made.record, made.prompt, made.environment)

    # --- a session that was cut off -------------------------------------------------------------

    def _with_resumption(self, run: RunDirectory, result: RunResult) -> RunResult | None:
        """The result, and whether the run's session can go on after it; None if it does already."""
        parts = run.parts()
        if len(parts) > result.parts:
            return None
        if self._is_resumable(parts):
            return replace(result, is_resumable=True)
        if parts[-1].has(records.RESUMES):
            reason = "Its session was to be resumed, but its agent or its clone is another one now."
            return replace(result, end=RunEnd.LOST, reason=reason, pre_empted=False)
        return result

    def _is_resumable(self, parts: Sequence[RunDirectory]) -> bool:
        record = parts[-1].order()
        if record is None or record.kind not in PROGRAMS or parts[-1].has(records.CANCELLED):
            return False
        agent = self._agents().agent(record.agent)
        is_same = isinstance(agent, ProgramAgent) and agent.kind == record.kind
        if not is_same or not Path(record.directory).is_dir():
            return False
        return all(part.has(records.EXIT) for part in parts) and may_resume(
            [part.own_result(limit=0) for part in parts]
        )

    def _to_resume(self, run: RunDirectory) -> RunDirectory | None:
        """The last part of the run, if its session is to go on after it."""
        parts = run.parts()
        last = parts[-1]
        return last if last.has(records.RESUMES) and self._is_resumable(parts) else None

    def _next_part(self, run: RunDirectory) -> int | None:
        if self._to_resume(run):
            return 1 + sum(part.purpose == RESUMED for part in run.parts())
        is_new = run.last.number == 1 and isinstance(self._look(run), Fresh)
        return 0 if is_new else None

    def _start(self, run: RunDirectory, order: RunOrder) -> bool:
        cut_off = self._to_resume(run)
        start: Start
        if cut_off:
            start = partial(self._resume_session, cut_off, order.most_usd)
        else:
            start = self._starter(run, order)
        return not self._suspensions.is_ordered(run) and start()

    def _resume_session(self, last: RunDirectory, most_usd: float | None) -> bool:
        """Start the part in which a run's session goes on; False if another was faster."""
        record, result = last.order(), last.own_result(limit=0)
        agent = self._agents().agent(record.agent) if record else None
        if result.report is None or not isinstance(agent, ProgramAgent):
            return False
        session, why = result.report.session, why_cut_off(result)
        made = resumed_start(agent, last, session, why, self._environment, most_usd)
        return made is not None and self._start_next(last, made)

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
                    lambda: self._observe(run) == seen and self._suspensions.resume(run.last)
                )
            finally:
                self._settle(run)

    def _settle(self, run: RunDirectory) -> None:
        # The disk knows: a start that was cancelled half-way may have happened.
        last = run.last
        is_living = last.is_recorded and not last.is_fresh and not last.is_suspended
        if not is_living:
            run.file(records.QUEUED).unlink(missing_ok=True)
        self._slots.settle(run.run_id, is_living=is_living and not last.has(records.EXIT))

    def _tell_change(self) -> None:
        """Let every attached caller look at once."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _suspend(self, key: str) -> tuple[str, ...]:
        self._suspensions.order(key)
        runs = _runs_of(self._home, key)
        return tuple(run.run_id for run in runs if isinstance(self._observe(run), Suspended))

    def _resume(self, key: str) -> tuple[str, ...]:
        runs = (run for run in _runs_of(self._home, key) if run.last.is_suspended)
        suspended = [run.run_id for run in runs if isinstance(self._look(run), Living)]
        self._suspensions.withdraw(key)
        return tuple(suspended)

    def _observe(self, run: RunDirectory) -> RunResult | Fresh | Living | Suspended:
        seen = self._look(run)
        if isinstance(seen, Ended):
            return run.result()
        if isinstance(seen, Fresh):
            return seen
        is_suspended = self._suspensions.carry_out(run.last)
        return Suspended(may_resume=not self._suspensions.is_ordered(run)) if is_suspended else seen

    def _look(self, run: RunDirectory) -> Status:
        # Looking at a run that nobody has asked for yet leaves no trace.
        last = run.last
        return self._kind(last).look(last) if last.is_recorded else Fresh()

    def _kind(self, run: RunDirectory) -> SupervisedRuns | SimulatedRuns:
        """The kind that the run was started as, whatever the agents file says today."""
        record = run.order()
        return self._simulated if record and record.kind == SIMULATED else self._supervised

    def _try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        return self._kind(run).try_end(run, asking)

    def _has_ended(self, run_id: str) -> bool:
        run = RunDirectory.of(self._home, run_id)
        return not isinstance(self._look(run), Living) or run.last.is_suspended

    def _starter(self, run: RunDirectory, order: RunOrder) -> Start:
        agents = self._agents()
        agent = agents.agent(order.agent)
        if agent is None:
            key = f"agents.{order.agent}"
            raise AgentsFileRefused(agents.source, key, "missing, and its stage must run")
        if isinstance(agent, SimulatedAgent):
            record = simulated_record(agent, order, run, agents.minute_seconds)
            return partial(self._simulated.start, run, record, order.prompt)
        start = partial(self._supervised.start, resources=self._resources)
        if isinstance(agent, ProgramAgent):
            copied: Copied | None = None
            if agent.resume_for_fixes and order.continues:
                repaired = RunDirectory.of(self._home, order.continues)
                copied = copied_session(agent, repaired, self._environment)
                if copied is None:
                    log.warning("No session of %s is left: its fix starts anew", order.continues)
            made = program_start(agent, order, run, self._environment, copied)
            return partial(
                start, run, made.record, made.prompt, made.environment, order.started_at, made.files
            )
        given = command_environment(agent, order, run, self._environment)
        record = command_record(agent, order, run, given)
        return partial(start, run, record, order.prompt, given, order.started_at)


def _may_go_on(part: RunDirectory) -> bool:
    """Whether its program is known, so that its session might go on unless that is ended."""
    record = part.order()
    return record is not None and record.kind in PROGRAMS


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


async def _tell_start(
    run: RunDirectory, on_start: StartListener, told: RunStart | None
) -> RunStart | None:
    """What was told of the start; None before it: the supervisor lives a moment before that."""
    start = await in_thread(partial(_start_of, run, told))
    if start and start != told:
        await on_start(start)
    return start


def _start_of(run: RunDirectory, told: RunStart | None) -> RunStart | None:
    """When the run was started first, and its session's id, if that was chosen or printed."""
    last = run.last
    record = last.order()
    if told and (told.session or record is None or record.kind not in PROGRAMS):
        return told
    starts = run.starts()
    if not starts or record is None or not last.starts():
        return None
    program = PROGRAMS.get(record.kind)
    session = record.session
    if program and not session:
        session = session_of(program, last.file(records.STDOUT))
    head = Head(*record.head) if record.head else None
    return RunStart(starts[0], head, session)


def _extend(run: RunDirectory, deadline: timedelta) -> None:
    """Set the deadline of the last part: what the ones before have worked is not to be had again.

    That of a part which asks for an answer alone stays short.
    """
    *before, last = run.first.parts()
    record = last.order()
    if record is None or last.is_fresh or last.has(records.EXIT):
        raise UnknownRequirement(f"{run.run_id} is not running; nothing to extend.")
    worked = sum(part.worked_seconds for part in before)
    last.write_deadline(deadline / MINUTE * record.minute_seconds - worked)
