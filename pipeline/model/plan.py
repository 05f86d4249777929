"""The plan, the states of what it plans, and references to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pipeline.team import TEAM, Agent


@dataclass(frozen=True)
class Group:
    """Stages of one kind: reporting, and the barrier that stages without needs of their own use."""

    name: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One agent's part of a requirement.

    `needs` are stage names with the barrier already spelt out; `minutes` are for the plan,
    `deadline` and `grace` bound the run; `flag` makes the stage conditional;
    `builds` are verified after this stage's merge.
    """

    name: str
    agent: str
    group: str
    needs: tuple[str, ...]
    minutes: float
    deadline: timedelta
    grace: timedelta
    retries: int = 0
    flag: str | None = None
    builds: tuple[str, ...] = ()
    declared: Agent | None = None
    """The agent as the plan knows it, if that declares others beside the eleven."""

    @property
    def member(self) -> Agent:
        """The agent. Raises: KeyError if it is neither declared nor one of the eleven."""
        return self.declared or TEAM[self.agent]


@dataclass(frozen=True)
class Bounds:
    """When the orchestrator stops repairing by itself and asks a human (design, section 3).

    `work` is the time that a requirement may take, without what it waits for humans. Once its runs
    and those of its fixes have cost `usd`, nothing starts until a human raises it; `warn_usd` warns
    before.
    """

    reds: int = 3
    """A gate that is red for the so-many-th time is not repaired again."""
    depth: int = 3
    """No fix is opened that deep; a requirement's own fixes have depth 1."""
    reviews: int = 2
    """How often REQUEST_CHANGES sends research back."""
    work: timedelta = timedelta(hours=72)
    usd: float | None = None
    warn_usd: float | None = None
    reminder: timedelta = timedelta(hours=24)
    """When a human is reminded of a question; each further reminder takes twice as long."""
    extension_factor: float = 3.0
    """Without a human a run may be extended to at most so many times its stage's deadline."""


@dataclass(frozen=True)
class Pipeline:
    """A checked plan: stages in the order of the file, which is a legal sequential order."""

    name: str
    groups: tuple[Group, ...]
    stages: tuple[Stage, ...]
    bounds: Bounds = Bounds()

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises: KeyError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def builds(self) -> tuple[str, ...]:
        """The builds that some stage names, each once, in the order of the file."""
        return tuple(dict.fromkeys(build for stage in self.stages for build in stage.builds))

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that some stage waits for, each once, in the order of the file."""
        return tuple(dict.fromkeys(stage.flag for stage in self.stages if stage.flag))

    def owner_of(self, build: str, after: Stage) -> str:
        """Who answers for a build: who is declared to, else the agent of the stage before it."""
        answering = (stage.agent for stage in self.stages if build in stage.member.builds)
        return next(answering, after.agent)

    @property
    def owners(self) -> tuple[tuple[str, str], ...]:
        """Each build with who answers for it, once for each stage that it is verified after."""
        return tuple(
            (build, self.owner_of(build, stage)) for stage in self.stages for build in stage.builds
        )


@dataclass(frozen=True)
class ExpectedStage:
    """How long a stage takes, in seconds, and how long the requirement takes from its begin on."""

    p50: float
    p80: float
    rest_p50: float
    rest_p80: float


@dataclass(frozen=True)
class Expected:
    """How long a requirement was likely to take at its start, in seconds, if nothing holds it.

    Half of them take no longer than p50, four of five no longer than p80.
    """

    p50: float
    p80: float
    stages: Mapping[str, ExpectedStage]
    is_learned: bool
    """Whether earlier runs tell of every stage; else the pipeline file does of some."""


# --- states ---------------------------------------------------------------------------------------


class Priority(StrEnum):
    """P0 is catastrophic and stops the line; P4 is low."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    @property
    def rank(self) -> int:
        """0 for P0 to 4 for P4: lower is served first."""
        return int(self.value[1])


class RequirementState(StrEnum):
    """Where a requirement stands."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    HELD = "HELD"
    BLOCKED = "BLOCKED"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the requirement has ended."""
        return self in (self.DELIVERED, self.FAILED, self.CANCELLED)


class StageState(StrEnum):
    """Where a stage of a requirement stands."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    BLOCKED = "blocked"

    @property
    def is_done(self) -> bool:
        """Whether what needs the stage may continue."""
        return self in (self.COMPLETED, self.SKIPPED)

    @property
    def is_red(self) -> bool:
        """Whether the stage stands in the way until a retry or an answer."""
        return self in (self.FAILED, self.BLOCKED)


class Mode(StrEnum):
    """How the stages of a requirement are dispatched."""

    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"


# --- references -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequirementRef:
    """Which execution speaks: the number and the first run id of its workflow."""

    number: str
    workflow_run: str

    @property
    def key(self) -> str:
        """Prefix of every run id and event id of this execution."""
        return f"{self.number}/{self.workflow_run}"


@dataclass(frozen=True)
class Head:
    """The tip of a requirement's integration branch; `position` grows with every merge."""

    commit: str
    position: int
