"""Ports of a host whose agents and builds follow a script instead of working."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from temporalio.testing import WorkflowEnvironment

from adapters.care.care import Care, Remediator
from pipeline.errors import DependencyUnavailable, UnknownRequirement
from pipeline.handover import Document, Handover
from pipeline.model import (
    DEPENDENCIES,
    Alert,
    AlertKind,
    BuildRequest,
    BuildResult,
    BuildStep,
    Ending,
    Notification,
    Preparation,
    ProgramReport,
    RunEnd,
    RunOrder,
    RunResult,
    RunStart,
    SashaCall,
    SlotRequest,
    SlotUsage,
    StageContext,
    StageRequest,
    Waiting,
)
from pipeline.ports import StartListener
from pipeline.prompt import Place, Prompt, stage_prompt
from pipeline.verdicts import green_notice
from tests.plans import TEMPLATES

Notice = Mapping[str, object]


@dataclass(frozen=True)
class Script:
    """What one run does: how long it takes, how it ends, what is laid over its green notice.

    `files` are written into its worktree, if it has one. One that `lasts` runs, however slow the
    machine is, until the test lets it end.
    """

    notice: Notice = field(default_factory=dict)
    minutes: float | None = None
    lasts: bool = False
    end: RunEnd = RunEnd.EXITED
    exit_code: int = 0
    output: str | None = None
    pre_empted: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    ending: Ending | None = None
    """What its program tells of its end; None: it is of no known kind."""
    says: str = ""
    resets: timedelta | None = None
    """How long after its end the limit is reset that it has met."""
    is_resumable: bool = False
    """Whether its session goes on after this end, with the next script of its stage."""
    usd: float | None = None
    """What its program tells that it cost."""


class PlainPrompts:
    """Prompts of a host that lays nothing over them, and leaves every document where it is."""

    async def prepare(self, request: StageRequest, context: StageContext, worktree: str) -> Prompt:
        logs = Handover(tuple(Document(log.path, 0, f": {log.gate}") for log in context.logs))
        return stage_prompt(TEMPLATES, request, context, Place(worktree=worktree, logs=logs))


class NobodyWaits:
    """Notifier and Sasha where nothing is ever held: being told of anything, or called, fails."""

    async def notify(self, notification: Notification) -> None:
        assert not notification.workflow_ids

    async def pre_empt(self, workflow_ids: Sequence[str]) -> None:
        assert not workflow_ids

    async def call(self, call: SashaCall) -> None:
        raise AssertionError(call)

    async def tell_repaired(self, waiting: Waiting) -> None:
        assert not waiting.callers


class ScriptedCare:
    """HealthChecks of a place whose troubles a test makes; `cures` by kind: the act that helps.

    0: nothing does. `part` of it may be really looked after.
    """

    def __init__(self, part: Remediator | None = None) -> None:
        self._kinds = part.kinds if part else frozenset()
        self._part = Care(part) if part else None
        self.alerts: list[Alert] = []
        self.cures: dict[AlertKind, int] = {}
        self.acts: list[Alert] = []
        self.looks = 0

    async def look(self) -> Sequence[Alert]:
        self.looks += 1
        found = await self._part.look() if self._part else ()
        return (*self.alerts, *found)

    async def is_over(self, alert: Alert) -> bool | None:
        if any(each.key == alert.key for each in self.alerts):
            return False
        if self._part and alert.kind in self._kinds:
            return await self._part.is_over(alert)
        return True

    async def act(self, alert: Alert) -> str:
        if self._part and alert.kind in self._kinds:
            return await self._part.act(alert)
        self.acts.append(alert)
        done = sum(act.kind is alert.kind for act in self.acts)
        if self.cures.get(alert.kind) == done:
            self.alerts = [each for each in self.alerts if each.key != alert.key]
        return f"act {done}"


class Breakable:
    """A port that is away as long as health checks have an alert of its component."""

    def __init__(self, port: object, dependency: str, care: ScriptedCare) -> None:
        self._port = port
        self._dependency = dependency
        self._care = care

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object, **named: object) -> object:
            ill = [alert.component for alert in self._care.alerts]
            if DEPENDENCIES[self._dependency] in ill:
                raise DependencyUnavailable(self._dependency, "its address", "Start it.")
            return await getattr(self._port, name)(*arguments, **named)

        return call


class AlwaysReady:
    """Dependencies that nobody takes away."""

    def check(self) -> None:
        """Let everything pass."""


class Clock(Protocol):
    """How the minutes of scripted work pass."""

    heartbeat: timedelta | None
    """Silence of a stage's activity that means a lost worker, as a requirement's order has it."""

    async def sleep(self, minutes: float) -> None: ...

    async def now(self) -> datetime: ...


class VirtualClock:
    """The time-skipping server's: exact minutes in no time."""

    heartbeat: timedelta | None = None  # nobody beats while the time skips on

    def __init__(self, env: WorkflowEnvironment) -> None:
        self._env = env

    async def sleep(self, minutes: float) -> None:
        await self._env.sleep(timedelta(minutes=minutes))

    async def now(self) -> datetime:
        return await self._env.get_current_time()


class RealClock:
    """Real time, a thousandth of a second to the minute: order counts, length does not."""

    # As in production: what a worker has taken while it closed is lost, and would be for ever.
    heartbeat: timedelta | None = timedelta(seconds=20)

    async def sleep(self, minutes: float) -> None:
        await asyncio.sleep(minutes / 1000)

    async def now(self) -> datetime:
        return datetime.now(UTC)


class ScriptedRuns:
    """AgentRuns by script. `scripts` by stage: one per attempt, the last one repeats."""

    def __init__(self, clock: Clock, scripts: Mapping[str, Sequence[Script]] | None = None) -> None:
        self._clock = clock
        self._scripts = scripts or {}
        self._results: dict[str, RunResult] = {}
        self.orders: list[RunOrder] = []
        self.ended: list[str] = []
        self.extensions: list[tuple[str, timedelta]] = []
        self.refused_extensions = 0
        self.suspended: set[str] = set()
        """Keys of executions whose runs are suspended: none of them ends before it is resumed."""
        self._changed = asyncio.Condition()
        self._over: set[str] | None = set()
        """Requirements and stages whose runs that last may end; None: all of them may."""
        self.slots: int | None = None
        """How many agents may live at once; None: as many as come."""
        self.claims = 0
        """How often somebody asked for a slot to start with."""
        self.by_number: dict[str, Script] = {}
        """What every run of a requirement does, whatever its stage's script says."""
        self._cut_off: set[str] = set()
        """Runs whose session is to go on."""
        self._resumes: Counter[str] = Counter()
        self.on_start: dict[str, Callable[[Path], object]] = {}
        """What else a stage's agent does in its worktree, by stage."""

    async def next_part(self, run_id: str) -> int | None:
        if run_id in self._cut_off:
            return self._resumes[run_id] + 1
        return None if any(order.run_id == run_id for order in self.orders) else 0

    @asynccontextmanager
    async def slot(self, request: SlotRequest) -> AsyncIterator[bool]:
        has_slot = self.slots is None or self.used < self.slots
        self.claims += 1
        yield has_slot

    async def let_resume(self, run_id: str, parts: int) -> None:
        assert self._results[run_id].is_resumable
        self._cut_off.add(run_id)

    async def queue(self, request: SlotRequest) -> None:
        """Nobody is less urgent."""

    async def allow(self, slots: int) -> None:
        """Let so many agents live at once from now on."""
        async with self._changed:
            self.slots = slots
            self._changed.notify_all()

    async def wait_for_slot(self, request: SlotRequest) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.slots is None or self.used < self.slots)

    @property
    def used(self) -> int:
        return sum(order.run_id not in self._results for order in self.orders)

    def queue_place(self, run_id: str) -> tuple[int, SlotUsage]:
        return 1, SlotUsage(self.used, self.slots or 0, self.slots or 0)

    async def usages(self) -> AsyncIterator[SlotUsage]:
        await asyncio.Event().wait()
        yield SlotUsage(0, 0, 0)

    async def start(self, order: RunOrder) -> bool:
        if _key(order.run_id) in self.suspended:
            return False
        if order.run_id in self._cut_off:
            self._cut_off.remove(order.run_id)
            self._resumes[order.run_id] += 1
            first = self._results.pop(order.run_id)
            order = replace(order, head=first.head)
        self.orders.append(order)
        return True

    async def until_resumed(self, run_id: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: _key(run_id) not in self.suspended)

    async def until_suspended(self, run_id: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: _key(run_id) in self.suspended)

    async def attach(self, request: SlotRequest, on_start: StartListener) -> RunResult:
        if request.run_id not in self._results:
            order = next(o for o in reversed(self.orders) if o.run_id == request.run_id)
            resumes = self._resumes[order.run_id]
            result = replace(await self._run(order, on_start), head=order.head, resumes=resumes)
            async with self._changed:
                self._results.setdefault(request.run_id, result)  # unless it was ended meanwhile
                self._changed.notify_all()
        return self._results[request.run_id]

    async def _run(self, order: RunOrder, on_start: StartListener) -> RunResult:
        script = self._script(order)
        started = await self._clock.now()
        await on_start(RunStart(started, order.head))
        minutes = order.minutes if script.minutes is None else script.minutes
        await self._clock.sleep(0 if script.lasts else minutes)
        async with self._changed:
            await self._changed.wait_for(lambda: self._may_end(order, script))
        worktree = Path(order.worktree)
        if act := self.on_start.get(order.stage):
            act(worktree)
        _write(worktree, script.files)
        notice = {**green_notice(order.member, order.number), **script.notice}
        fenced = f"```json\n{json.dumps(notice)}\n```"
        return RunResult(
            end=script.end,
            exit_code=script.exit_code if script.end is RunEnd.EXITED else None,
            output=fenced if script.output is None else script.output,
            error_output="",
            started_at=started,
            ended_at=(ended := await self._clock.now()),
            starts=1,
            log_reference=f"runs/{order.run_id}/stdout",
            pre_empted=script.pre_empted,
            report=_report(script, fenced, ended),
            is_resumable=script.is_resumable,
        )

    def _may_end(self, order: RunOrder, script: Script) -> bool:
        names = {order.number, order.stage}
        is_over = not script.lasts or self._over is None or bool(names & self._over)
        may_proceed = is_over and _key(order.run_id) not in self.suspended
        return may_proceed or order.run_id in self._results

    async def let_end(self, *names: str) -> None:
        """Let what lasts end from now on: of these requirements or stages, or everything."""
        async with self._changed:
            self._over = {*(self._over or ()), *names} if names else None
            self._changed.notify_all()

    def _script(self, order: RunOrder) -> Script:
        if script := self.by_number.get(order.number):
            return script
        scripts = self._scripts.get(order.stage, (Script(),))
        nth = sum(o.stage == order.stage for o in self.orders) - 1
        return scripts[min(nth, len(scripts) - 1)]

    async def end(self, run_id: str) -> RunResult:
        self.ended.append(run_id)
        return await self._end(run_id)

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        self.ended.append(key)
        ids = dict.fromkeys(order.run_id for order in self.orders if _key(order.run_id) == key)
        self.suspended.discard(key)
        return {run_id: await self._end(run_id) for run_id in ids}

    async def _end(self, run_id: str) -> RunResult:
        head = next((order.head for order in self.orders if order.run_id == run_id), None)
        cancelled = RunResult(RunEnd.CANCELLED, None, "", "", None, None, 0, "", head=head)
        async with self._changed:
            result = self._results.setdefault(run_id, cancelled)
            self._changed.notify_all()
        return replace(result, output="", error_output="")

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        if self.refused_extensions:
            self.refused_extensions -= 1
            raise UnknownRequirement(f"{run_id} waits for its start; nothing to extend.")
        if run_id not in self._living(_key(run_id)):
            raise UnknownRequirement(f"{run_id} is not running; nothing to extend.")
        self.extensions.append((run_id, deadline))

    async def suspend(self, key: str) -> tuple[str, ...]:
        async with self._changed:
            self.suspended.add(key)
            self._changed.notify_all()
        return self._living(key)

    async def resume(self, key: str) -> tuple[str, ...]:
        if key not in self.suspended:
            return ()
        async with self._changed:
            self.suspended.remove(key)
            self._changed.notify_all()
        return self._living(key)

    def _living(self, key: str) -> tuple[str, ...]:
        ids = dict.fromkeys(order.run_id for order in self.orders)
        return tuple(i for i in ids if _key(i) == key and i not in self._results)

    def started(self) -> list[str]:
        """The stages in the order in which their agents were started."""
        return [order.stage for order in self.orders]

    def order(self, stage: str) -> RunOrder:
        """The latest run of a stage."""
        return next(order for order in reversed(self.orders) if order.stage == stage)


def _report(script: Script, text: str, ended: datetime) -> ProgramReport | None:
    if script.ending is None:
        return None
    until = None if script.resets is None else ended + script.resets
    account = "claude-code"
    return ProgramReport(
        account,
        account,
        script.ending,
        text=text,
        detail=script.says,
        until=until,
        cost_usd=script.usd,
    )


def _key(run_id: str) -> str:
    number, workflow_run, *_ = run_id.split("/")
    return f"{number}/{workflow_run}"


def _write(worktree: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (worktree / name).write_text(text)


class ScriptedBuilds:
    """Builds in no time; `exit_codes` by build: one per verification, the last one repeats."""

    def __init__(self, clock: Clock, exit_codes: Mapping[str, Sequence[int]] | None = None) -> None:
        self._clock = clock
        self.minutes: dict[str, float] = {}
        self._exit_codes = exit_codes or {}
        self._held: dict[str, asyncio.Event] = {}
        self.prepared: list[tuple[str, tuple[str, ...]]] = []
        """Stages whose clones were prepared, and for which builds, in that order."""
        self.on_prepare: Callable[[Path], int] = lambda _: 0
        """What `prepare` does in a clone; returns its exit code."""
        self.may_prepare = asyncio.Event()
        """Lets preparations come to their end; set unless a test clears it."""
        self.may_prepare.set()
        self.cut_off = 0
        """How many of them were cancelled."""
        self.requests: list[BuildRequest] = []

    def hold(self, name: str) -> None:
        """Let every build of a requirement, or of that name, last until it is released."""
        self._held[name] = asyncio.Event()

    def release(self, name: str) -> None:
        self._held[name].set()

    async def prepare(
        self, request: StageRequest, names: Sequence[str], directory: str
    ) -> Preparation | None:
        self.prepared.append((request.stage.name, tuple(names)))
        began = await self._clock.now()
        try:
            await self.may_prepare.wait()
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        code = self.on_prepare(Path(directory))
        await self._clock.sleep(self.minutes.get("prepare", 0))
        said = "npm error code E404" if code else ""
        ended, step = await self._clock.now(), BuildStep("prepare", ("npm", "ci"), 1.0)
        result = BuildResult(RunEnd.EXITED, code, said, began, ended, "prepare.log", steps=(step,))
        return Preparation(names[-1], result, ("package.json",))

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        self.requests.append(request)
        codes = self._exit_codes.get(request.build, (0,))
        nth = sum(r.build == request.build for r in self.requests) - 1
        exit_code = codes[min(nth, len(codes) - 1)]
        output = "" if exit_code == 0 else f"error TS2345: {request.build} does not compile"
        await self._clock.sleep(self.minutes.get(request.build, 0))
        for name in (request.ref.number, request.build):
            if held := self._held.get(name):
                await held.wait()
        now = await self._clock.now()
        return BuildResult(RunEnd.EXITED, exit_code, output, now, now, f"{request.build}.log")

    def built(self) -> list[str]:
        """The builds in the order in which they were verified."""
        return [request.build for request in self.requests]
