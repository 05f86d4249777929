"""How long a requirement takes yet, for people: from what earlier ones took, and what adds to it.

A database that cannot be reached teaches nothing: then the pipeline file's minutes count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView
from adapters.user_files import find_agents
from cli import output
from cli.verdict import needs_human
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import AgentsFile, SimulatedAgent
from pipeline.durations import LEAST, NOTHING, Ahead, Estimate, estimate
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.model import Mode, Pipeline, RequirementState, Stage, StageState
from settings import Settings

_FRESH = timedelta(minutes=10)
"""What is known grows by a few runs an hour."""
_NAMED = 3
_MINUTE = 60.0


@dataclass(frozen=True)
class Rest:
    """How long it takes yet, and what adds to that, in words; `at` is when that was reckoned."""

    estimate: Estimate
    adds: tuple[str, ...]
    at: datetime

    def line(self) -> str:
        """One sentence; without ends of the clock where something adds to it."""
        p50, p80 = (output.duration(each) for each in (self.estimate.p50, self.estimate.p80))
        if self.adds:
            said = f"Expected work: {p50} (p50), {p80} (p80); {', '.join(self.adds)} not counted"
        else:
            ends = (
                self.at + timedelta(seconds=each) for each in (self.estimate.p50, self.estimate.p80)
            )
            half, most = (output.since(each, self.at) for each in ends)
            said = f"Expected end: {half} (p50, in {p50}), {most} (p80, in {p80})"
        return output.plain("; ".join((said, *basis(self.estimate))) + ".")

    def document(self) -> Mapping[str, object]:
        """The JSON; the moments are null where something adds to it."""
        ends = {
            f"{name}_at": None if self.adds else self.at + timedelta(seconds=seconds)
            for name, seconds in (("p50", self.estimate.p50), ("p80", self.estimate.p80))
        }
        return {**document(self.estimate), **ends, "not_counted": self.adds}


class Durations:
    """What is known of durations, and of the agents that are to work; read again in a while."""

    def __init__(self, agents: AgentsFile | None) -> None:
        """Take the agents file; without one the kinds of agents are not known."""
        self._agents = agents
        self._learned = NOTHING
        self._asked_at: datetime | None = None
        self.was_read = False
        """Whether the database has told anything."""

    async def read(self, reader: SdlcReader) -> None:
        """Read what is known, unless that was asked for lately. Raises: DependencyUnavailable."""
        now = datetime.now(UTC)
        if self._asked_at is None or now - self._asked_at > _FRESH:
            self._asked_at = now
            self._learned = await reader.durations()
            self.was_read = True

    def of_plan(
        self,
        pipeline: Pipeline,
        mode: Mode,
        *,
        is_certain: bool = False,
        slots: int | None = None,
    ) -> Estimate:
        """How long all of it takes; `is_certain` if every conditional stage runs."""
        ahead = [
            self._ahead(stage, is_certain=is_certain or stage.flag is None)
            for stage in pipeline.stages
        ]
        return estimate(pipeline, ahead, self._learned, mode=mode, slots=slots)

    def rest(self, view: RequirementView, pipeline: Pipeline, now: datetime) -> Rest | None:
        """How long the requirement takes yet; None if nothing is ahead of it."""
        if not has_rest(view):
            return None
        stands = {stage.stage: stage for stage in view.stages}
        building = {each.build for each in view.building}
        queued = {each.stage for each in view.queued}
        ahead = []
        for stage in pipeline.stages:
            each = stands[stage.name]
            if each.state is StageState.SKIPPED:
                continue
            if each.state is StageState.COMPLETED:
                if building.intersection(stage.builds):
                    ahead.append(self._ahead(stage, is_certain=True, is_worked=True))
                continue
            began = each.prepare_started_at or each.started_at
            is_running = each.state is StageState.RUNNING and stage.name not in queued
            elapsed = (now - began).total_seconds() if is_running and began else 0.0
            ahead.append(
                self._ahead(
                    stage,
                    is_certain=stage.flag is None or each.attempt > 0,
                    is_running=is_running,
                    elapsed=max(0.0, elapsed),
                )
            )
        repaired = sum(
            ((fix.ended_at or now) - fix.created_at).total_seconds() for fix in view.fixes
        )
        told = estimate(pipeline, ahead, self._learned, mode=view.mode, repaired=max(0.0, repaired))
        adds = [*_adds(view, now)]
        is_repaired = any(not fix.state.is_final for fix in view.fixes)
        if is_repaired and len(self._learned.repairs.get(pipeline.name, ())) < LEAST:
            adds.append("the repair that is under way")
        return Rest(told, tuple(adds), now)

    def _ahead(
        self,
        stage: Stage,
        *,
        is_certain: bool,
        is_running: bool = False,
        elapsed: float = 0.0,
        is_worked: bool = False,
    ) -> Ahead:
        kind, seconds = None, stage.minutes * _MINUTE
        if self._agents:
            agent = self._agents.agent(stage.agent)
            kind = agent.kind if isinstance(agent, ProgramAgent) else ""
            if isinstance(agent, SimulatedAgent):
                minutes = stage.minutes if agent.minutes is None else agent.minutes
                seconds = minutes * self._agents.minute_seconds
        return Ahead(
            stage,
            kind,
            seconds,
            is_certain=is_certain,
            is_running=is_running,
            elapsed=elapsed,
            is_worked=is_worked,
        )


async def rest_of(settings: Settings, reader: SdlcReader, view: RequirementView) -> Rest | None:
    """How long a requirement takes yet, as of now. Raises: DependencyUnavailable."""
    if not has_rest(view):
        return None
    found = Durations(agents_of(settings))
    await found.read(reader)
    return found.rest(view, (await reader.order(view.number)).pipeline, datetime.now(UTC))


def has_rest(view: RequirementView) -> bool:
    """Whether it has stages ahead: not once it has ended, and a fix is part of what it repairs."""
    return bool(view.stages) and not (view.state.is_final or view.parent)


async def durations_without_server(settings: Settings) -> Durations:
    """What is known; nothing if the database cannot be reached."""
    from cli.connections import records  # a plan alone needs no database driver

    found = Durations(agents_of(settings))
    try:
        async with records(settings) as reader:
            await found.read(reader)
    except DependencyUnavailable:
        pass  # `was_read` tells
    return found


def agents_of(settings: Settings) -> AgentsFile | None:
    """The agents file; None without a good one: that is another command's to refuse."""
    try:
        return find_agents(settings.agents_file)
    except RefusedInput:
        return None


def _adds(view: RequirementView, now: datetime) -> Iterator[str]:
    """What adds to the work that is ahead, longest first."""
    if view.state is RequirementState.ACCEPTED:
        yield f"the wait for a host since {output.since(view.created_at, now)}"
    for hold in view.holds:
        by = ", ".join(hold.held_by) or hold.boundary
        yield f"the hold by {by} since {output.since(hold.since, now)}"
    if view.escalation or needs_human(view):
        asked = view.escalation.created_at if view.escalation else view.updated_at
        yield f"a human's answer, asked since {output.since(asked, now)}"
    for each in view.queued:
        yield f"{each.stage}'s wait for a slot since {output.since(each.since, now)}"


def basis(told: Estimate) -> Iterator[str]:
    """Which stages are told by the file, and which may come on top."""
    if told.by_file:
        whose = "all stages" if not told.is_learned else _listed(told.by_file)
        yield f"by the pipeline file's minutes for {whose}, which have fewer than {LEAST} runs"
    if told.may_come:
        yield f"without {_listed(told.may_come)}, which may be needed"


def document(told: Estimate) -> Mapping[str, object]:
    """The JSON of an estimate; times are seconds."""
    return {
        "p50_seconds": told.p50,
        "p80_seconds": told.p80,
        "by_file": told.by_file,
        "may_come": told.may_come,
        "stages": [asdict(stage) for stage in told.stages],
    }


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
