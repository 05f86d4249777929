"""One requirement in figures: what was planned, what came of it, and what each agent cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.history import History, RunTimes
from pipeline.model import NO_COST, Cost, Interval, Mode, Pipeline, Stage, StageState
from pipeline.overlap import needs_of
from pipeline.schedule import PlannedStage, Schedule, plan_schedule
from pipeline.time_spent import Link, Part, Stretch, add_up, critical_path, stretches, work_of


@dataclass(frozen=True)
class RequirementFacts:
    """What the rows tell of one requirement; `asked` are the stages that some agent was asked for.

    `costs` are those of its runs and of the runs of its fixes, by number, stage and attempt.
    """

    history: History
    pipeline: Pipeline
    mode: Mode
    states: Mapping[str, StageState]
    asked: frozenset[str]
    costs: Mapping[tuple[str, str, int], Cost]

    @property
    def skipped(self) -> tuple[str, ...]:
        """The stages that were not needed."""
        return tuple(n for n, state in self.states.items() if state is StageState.SKIPPED)


@dataclass(frozen=True)
class StageFigures:
    """A stage as planned, None if it was not needed, and as it ran, over all attempts."""

    stage: str
    agent: str
    state: StageState
    planned: PlannedStage | None
    runs: int
    worked: timedelta
    started_at: datetime | None
    ended_at: datetime | None
    """None while it runs."""


@dataclass(frozen=True)
class AgentFigures:
    """What an agent did in all its runs, those of fixes included, and what they cost."""

    agent: str
    runs: int
    worked: timedelta
    cost: Cost


@dataclass(frozen=True)
class RequirementReport:
    """The figures of one requirement; `parts` add up to `wall`, and so does the critical path."""

    history: History
    plan: Schedule
    """With the conditional stages that were needed, as far as that is known."""
    stretches: tuple[Stretch, ...]
    parts: Mapping[Part, timedelta]
    work: Mapping[Part, timedelta]
    path: tuple[Link, ...]
    stages: tuple[StageFigures, ...]
    agents: tuple[AgentFigures, ...]

    @property
    def planned(self) -> timedelta:
        """How long the plan takes."""
        return self.plan.makespan

    @property
    def wall(self) -> timedelta:
        """From the opening to the end, or until now."""
        return sum((each.length for each in self.stretches), timedelta())

    @property
    def plan_error(self) -> float | None:
        """How much longer than planned it took, in percent; None unless it has ended."""
        return plan_error(self.planned, self.wall) if self.history.ended_at else None


def plan_error(planned: timedelta, wall: timedelta) -> float | None:
    """How much longer than planned something took, in percent; None without a plan or a time."""
    return round(100 * (wall / planned - 1), 1) if planned and wall else None


def requirement_report(facts: RequirementFacts) -> RequirementReport:
    """The figures of a requirement; they need no more than its rows."""
    history, pipeline, states = facts.history, facts.pipeline, facts.states
    plan = planned_schedule(pipeline, facts.mode, facts.asked)
    needs = needs_of(pipeline)
    parts = stretches(history, needs)
    planned = {stage.stage: stage for stage in plan.stages}
    return RequirementReport(
        history=history,
        plan=plan,
        stretches=parts,
        parts=add_up(parts),
        work=work_of(history),
        path=critical_path(history, needs, parts),
        stages=tuple(
            _stage(history, stage, states[stage.name], planned.get(stage.name))
            for stage in pipeline.stages
            if stage.name in states
        ),
        agents=_agents(history, facts.costs),
    )


def planned_schedule(pipeline: Pipeline, mode: Mode, asked: Collection[str]) -> Schedule:
    """The plan of the stages that were needed: a conditional one counts once it was asked for."""
    flags = (stage.flag for stage in pipeline.stages if stage.flag and stage.name in asked)
    return plan_schedule(pipeline, mode=mode, flags=frozenset(flags))


def _stage(
    history: History, stage: Stage, state: StageState, planned: PlannedStage | None
) -> StageFigures:
    runs = [run for run in history.runs if run.stage == stage.name and not history.is_of_fix(run)]
    spans = [span for run in runs if (span := history.span(run))]
    is_running = state is StageState.RUNNING
    return StageFigures(
        stage.name,
        stage.agent,
        state,
        planned,
        len(runs),
        _worked(history, runs),
        min((span.start for span in spans), default=None),
        None if is_running else max((span.end for span in spans), default=None),
    )


def _worked(history: History, runs: Sequence[RunTimes]) -> timedelta:
    return sum((_length(each) for run in runs for each in history.work(run)), timedelta())


def _length(interval: Interval) -> timedelta:
    return interval.end - interval.start


def _agents(
    history: History, costs: Mapping[tuple[str, str, int], Cost]
) -> tuple[AgentFigures, ...]:
    """Every agent that ran, in the order of its first run."""
    of_each: dict[str, list[RunTimes]] = {}
    for run in history.runs:
        of_each.setdefault(run.agent, []).append(run)
    return tuple(
        AgentFigures(
            agent,
            len(runs),
            _worked(history, runs),
            sum(
                (costs.get((run.number, run.stage, run.attempt), NO_COST) for run in runs), NO_COST
            ),
        )
        for agent, runs in of_each.items()
    )
