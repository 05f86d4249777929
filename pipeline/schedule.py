"""The schedule of a pipeline before anything runs: who works when, and what that saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from heapq import heapify, heappop, heappush
from math import isfinite
from typing import TypeVar

from pipeline.errors import RefusedInput
from pipeline.graph import exact_remaining
from pipeline.model import Mode, Pipeline, Stage
from pipeline.team import FLAGS

Number = TypeVar("Number", float, Fraction)


@dataclass(frozen=True)
class PlannedStage:
    """A stage and when it would run, in minutes from the start."""

    stage: str
    agent: str
    group: str
    start_minute: float
    end_minute: float
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """The stages in the order of their starts, and the figures that follow from them.

    `critical_path` is the longest chain of needs, whatever the slots.
    """

    pipeline: str
    mode: Mode
    stages: tuple[PlannedStage, ...]
    sequential_minutes: float
    makespan_minutes: float
    critical_path_minutes: float
    critical_path: tuple[str, ...]
    saved_minutes: float
    percentage_saved: float
    """One decimal."""

    @property
    def makespan(self) -> timedelta:
        """How long it takes."""
        return timedelta(minutes=self.makespan_minutes)


def plan_schedule(
    pipeline: Pipeline,
    *,
    mode: Mode,
    flags: frozenset[str] = frozenset(),
    slots: int | None = None,
    durations: Mapping[str, float] | None = None,
) -> Schedule:
    """List scheduling: of the stages that may start, the longest path ahead goes first.

    A conditional stage whose flag is not raised is left out; what needs it waits for its needs.
    `slots` bounds the stages at once (None: no bound); `durations` replaces minutes by stage name.

    Raises: RefusedInput for an unknown stage or flag, minutes that are not above zero, or no slot.
    Source: design, section 1, "The team and the standard pipeline".
    """
    if slots is not None and slots < 1:
        raise RefusedInput(f"A schedule needs at least one slot, not {slots}.")
    plan = with_flags(_with_durations(pipeline, durations or {}), flags)
    if mode is Mode.SEQUENTIAL:
        starts = _one_by_one(plan)
    else:
        starts = list_schedule(
            {stage.name: stage.needs for stage in plan.stages},
            exact_remaining(plan),
            {stage.name: Fraction(stage.minutes) for stage in plan.stages},
            slots or len(plan.stages),
        )
    return _schedule(plan, mode, starts)


def _with_durations(pipeline: Pipeline, durations: Mapping[str, float]) -> Pipeline:
    known = {stage.name for stage in pipeline.stages}
    for name, minutes in durations.items():
        if name not in known:
            raise RefusedInput(f"Pipeline {pipeline.name} has no stage {name!r}.")
        if not isfinite(minutes) or minutes <= 0:
            raise RefusedInput(f"The minutes of {name!r} must be above zero, not {minutes}.")
    stages = (
        replace(stage, minutes=durations.get(stage.name, stage.minutes))
        for stage in pipeline.stages
    )
    return replace(pipeline, stages=tuple(stages))


def with_flags(pipeline: Pipeline, flags: frozenset[str]) -> Pipeline:
    """The plan without conditional stages whose flag is not raised; their needs are inherited.

    Raises: RefusedInput for an unknown flag.
    """
    known = dict.fromkeys((*FLAGS, *pipeline.flags))
    if not flags <= known.keys():
        raise RefusedInput(f"Unknown flag {min(flags - known.keys())!r}: {', '.join(known)}.")
    inherited: dict[str, tuple[str, ...]] = {}
    kept: list[Stage] = []
    for stage in pipeline.stages:
        needs = dict.fromkeys(n for need in stage.needs for n in inherited.get(need, (need,)))
        if stage.flag is None or stage.flag in flags:
            kept.append(replace(stage, needs=tuple(needs)))
        else:
            inherited[stage.name] = tuple(needs)
    return replace(pipeline, stages=tuple(kept))


def _one_by_one(plan: Pipeline) -> dict[str, Fraction]:
    starts: dict[str, Fraction] = {}
    now = Fraction()
    for stage in plan.stages:
        starts[stage.name] = now
        now += Fraction(stage.minutes)
    return starts


def list_schedule(
    needs: Mapping[str, Sequence[str]],
    remaining: Mapping[str, Number],
    took: Mapping[str, Number],
    slots: int,
    checked: Mapping[str, Number] | None = None,
) -> dict[str, Number]:
    """When each stage starts, in plan order of `needs`: the longest path ahead goes first.

    `took` is how long each needs its slot; what needs a stage begins only after its checks, which
    take the time of `checked` and no slot. All in one unit; exact for fractions.
    """
    place = {name: position for position, name in enumerate(needs)}
    missing = {name: set(needs[name]) for name in needs}
    ready = [(-remaining[name], place[name], name) for name in missing if not missing[name]]
    heapify(ready)
    coming: list[tuple[Number, int, str, bool]] = []
    """Ends of stages, and of their checks."""
    starts: dict[str, Number] = {}
    now: Number = 0 * next(iter(took.values()), 0)  # type: ignore[assignment] # 0 of its kind
    used = 0
    while ready or coming:
        while ready and used < slots:
            _, position, name = heappop(ready)
            starts[name] = now
            used += 1
            heappush(coming, (now + took[name], position, name, False))
        now = coming[0][0]
        while coming and coming[0][0] == now:
            _, position, name, is_checked = heappop(coming)
            used -= not is_checked
            if not is_checked and checked and checked[name]:
                heappush(coming, (now + checked[name], position, name, True))
                continue
            for each in _freed(name, missing):
                heappush(ready, (-remaining[each], place[each], each))
    return starts


def _freed(done: str, missing: Mapping[str, set[str]]) -> list[str]:
    freed = []
    for name, needs in missing.items():
        if done in needs:
            needs.remove(done)
            if not needs:
                freed.append(name)
    return freed


def _schedule(plan: Pipeline, mode: Mode, starts: Mapping[str, Fraction]) -> Schedule:
    ends = {stage.name: starts[stage.name] + Fraction(stage.minutes) for stage in plan.stages}
    sequential = sum((Fraction(stage.minutes) for stage in plan.stages), Fraction())
    makespan = max(ends.values(), default=Fraction())
    chain = _critical_path(plan)
    saved = sequential - makespan
    return Schedule(
        pipeline=plan.name,
        mode=mode,
        stages=tuple(
            PlannedStage(
                stage.name,
                stage.agent,
                stage.group,
                float(starts[stage.name]),
                float(ends[stage.name]),
                stage.needs,
            )
            for stage in sorted(plan.stages, key=lambda stage: starts[stage.name])
        ),
        sequential_minutes=float(sequential),
        makespan_minutes=float(makespan),
        critical_path_minutes=float(sum(Fraction(stage.minutes) for stage in chain)),
        critical_path=tuple(stage.name for stage in chain),
        saved_minutes=float(saved),
        percentage_saved=round(float(100 * saved / sequential), 1) if sequential else 0.0,
    )


def _critical_path(plan: Pipeline) -> tuple[Stage, ...]:
    remaining = exact_remaining(plan)
    chain: list[Stage] = []
    candidates = [stage for stage in plan.stages if not stage.needs]
    while candidates:
        chain.append(max(candidates, key=lambda stage: remaining[stage.name]))
        candidates = [stage for stage in plan.stages if chain[-1].name in stage.needs]
    return tuple(chain)
