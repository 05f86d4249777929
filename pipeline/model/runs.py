"""Runs of agents: orders, how they ended, and the time between suspensions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.model.plan import Head
from pipeline.model.reports import ProgramReport
from pipeline.team import TEAM, Agent


@dataclass(frozen=True)
class Interval:
    """A stretch of work from `start` to `end`, both aware."""

    start: datetime
    end: datetime


def between(start: datetime, end: datetime, changes: Sequence[datetime]) -> list[Interval]:
    """What of that stretch was work, where each change suspends or resumes it, in turn.

    A clock that was set back meanwhile makes stretches of no length, not of a negative one.
    """
    end = max(start, end)
    edges = [start, *(min(max(start, change), end) for change in changes), end]
    pairs = zip(edges[::2], edges[1::2], strict=False)  # the last wait has no edge behind it
    return [Interval(first, max(first, last)) for first, last in pairs]


# --- runs -----------------------------------------------------------------------------------------


class RunEnd(StrEnum):
    """How the process of an agent or a build ended."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    NOT_STARTED = "not_started"
    GONE = "gone"
    """It was started, and neither a process nor an output of it is left."""
    HOST_LOST = "host_lost"
    """Its host was lost, and its requirement has moved to another one."""


@dataclass(frozen=True)
class SlotRequest:
    """Asks a host for a slot, to start a run or to resume one.

    The more urgent goes first, then who has the longer path to the end of the plan, then who has
    waited longer.
    """

    run_id: str
    priority: int
    remaining_minutes: float
    since: datetime | None = None
    """Since when it waits; None if it has just come."""


@dataclass(frozen=True)
class SlotUsage:
    """How many slots of a host are used, and why there may be fewer than configured."""

    used: int
    slots: int
    configured: int
    why: str = ""


@dataclass(frozen=True)
class RunOrder:
    """What a host needs to start the run of an agent."""

    run_id: str
    number: str
    stage: str
    agent: str
    attempt: int
    minutes: float
    deadline: timedelta
    grace: timedelta
    prompt: str
    worktree: str
    """Directory the agent works in; empty where no project is needed."""
    head: Head | None = None
    """The commit that stands there when it starts."""
    started_at: datetime | None = None
    """When the SDLC database says that it was started: then it is never started again."""
    prompt_by_schema: str = ""
    """The prompt for a program that takes the answer by a schema."""
    continues: str = ""
    """The run whose session it may begin with a copy of."""
    most_usd: float | None = None
    """The dollars that it may cost: no more than its budgets have room for."""
    declared: Agent | None = None
    """The agent as its stage knows it, if its plan declares others beside the eleven."""

    @property
    def member(self) -> Agent:
        """The agent. Raises: KeyError if it is neither declared nor one of the eleven."""
        return self.declared or TEAM[self.agent]


@dataclass(frozen=True)
class RunStart:
    """An agent that was really started, and on what.

    `session` is its program's, as soon as that is known.
    """

    at: datetime
    head: Head | None
    session: str = ""


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `output` is the tail of its standard output, bounded.

    A longer one is searched for the agent's last block, which then stands before the tail; `unread`
    counts the bytes before what was searched, if no answer was found.

    `starts` counts real starts of the agent: 0 or 1, `resumes` how often its program's session was
    resumed after it had been cut off. `pre_empted` says that it died while it was suspended, and
    not by our own cancellation; `suspensions` are when it was suspended and resumed, in turn: until
    its session was resumed it did not work either.
    """

    end: RunEnd
    exit_code: int | None
    output: str
    error_output: str
    started_at: datetime | None
    ended_at: datetime | None
    starts: int
    log_reference: str
    reason: str = ""
    pre_empted: bool = False
    suspensions: tuple[datetime, ...] = ()
    head: Head | None = None
    """The commit that it started from; None without a project, or if it was never ordered."""
    unread: int = 0
    report: ProgramReport | None = None
    """What the program itself tells, where its kind is known."""
    resumes: int = 0
    parts: int = 1
    """How often its program was started: also to resume its session, and for its answer alone."""
    is_resumable: bool = False
    """Whether it was cut off, and its session can go on in its clone."""

    @property
    def elapsed(self) -> timedelta:
        """How long the agent worked: while it was suspended it did not."""
        if self.started_at is None or self.ended_at is None:
            return timedelta()
        worked = between(self.started_at, self.ended_at, self.suspensions)
        return sum((each.end - each.start for each in worked), timedelta())
