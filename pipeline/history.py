"""What the rows tell of one requirement's time: its runs, builds and waits, with their moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.model import PRE_EMPTION, Interval, RequirementState, StageState, between


def lifetime(phases: Sequence[tuple[str, datetime]]) -> tuple[datetime | None, datetime | None]:
    """When a requirement was opened and when it ended, by its phases; None where it has not."""
    opened = [at for target, at in phases if target == RequirementState.RUNNING]
    ended = [at for target, at in phases if RequirementState(target).is_final]
    return opened[0] if opened else None, ended[0] if ended else None


@dataclass(frozen=True)
class RunTimes:
    """One run: opened with a slot in hand, its clone prepared, the agent's work, the row closed.

    `number` is the fix's of a run of a fix. `suspensions` are as in `pipeline.model.between`.
    """

    number: str
    stage: str
    agent: str
    attempt: int
    state: StageState
    opened_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime | None
    prepare_started_at: datetime | None = None
    prepare_ended_at: datetime | None = None
    suspensions: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class BuildTimes:
    """One verification of a build; `stage` is the one whose merge it belongs to."""

    gate: str
    stage: str
    verdict: str
    started_at: datetime
    ended_at: datetime


class WaitKind(StrEnum):
    """For whom a requirement waits."""

    HUMAN = "human"
    LIMIT = "limit"
    """An account that cannot work, or a budget without room."""
    HOLD = "hold"
    """A P0, a blocker, a dependency that is down, its turn to deliver."""
    SLOT = "slot"


@dataclass(frozen=True)
class Wait:
    """A wait of the requirement or a fix, at a stage or another boundary; open without an end."""

    kind: WaitKind
    number: str
    boundary: str
    reason: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True)
class History:
    """Everything that the rows tell of a requirement's time, up to `now`.

    `opened_at` is None until a host has taken it; `delivering` is when it had its turn to deliver.
    """

    number: str
    opened_at: datetime | None
    ended_at: datetime | None
    now: datetime
    runs: tuple[RunTimes, ...] = ()
    builds: tuple[BuildTimes, ...] = ()
    waits: tuple[Wait, ...] = ()
    delivering: tuple[Interval, ...] = ()

    @property
    def end(self) -> datetime:
        """Its end, or this moment."""
        return self.ended_at or self.now

    def is_of_fix(self, run: RunTimes) -> bool:
        """Whether a fix has made the run, not a stage of the requirement itself."""
        return run.number != self.number

    def work(self, run: RunTimes) -> list[Interval]:
        """When the run's agent worked: not while it was suspended, nor after it was cut off."""
        if run.started_at is None:
            return []
        if run.ended_at is not None:
            return between(run.started_at, run.ended_at, run.suspensions)
        return between(run.started_at, self._until(run), self._pre_emptions(run))

    def span(self, run: RunTimes) -> Interval | None:
        """From the start of the run's agent to its end; None if it was never started."""
        if run.started_at is None:
            return None
        return Interval(run.started_at, max(run.started_at, run.ended_at or self._until(run)))

    def _until(self, run: RunTimes) -> datetime:
        """To when a run has worked that nobody saw end."""
        if run.closed_at is not None:
            return run.closed_at
        held = [
            wait.start
            for wait in self.waits
            if wait.number == run.number and wait.end is None and wait.boundary == run.stage
        ]
        return min(held) if run.state is StageState.HELD and held else self.end

    def _pre_emptions(self, run: RunTimes) -> list[datetime]:
        """When an agent that has not ended was suspended and resumed, as far as rows tell."""
        begin = run.started_at or run.opened_at
        edges: list[datetime] = []
        for wait in self.waits:
            if wait.number == run.number and wait.boundary == PRE_EMPTION and wait.start >= begin:
                edges += filter(None, (wait.start, wait.end))
        return edges
