"""Scenarios of the fix loop: what every agent's run comes to, in which plan, and what humans say.

Who is not told anything does its work well; a scenario holds the turns that go otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType

from pipeline.model import Bounds, Pipeline, Stage
from tests.cluster import REPAIR
from tests.plans import a_plan, a_stage, shipped
from workflows.continuing import EVENTS


class Kind(StrEnum):
    """How a run ends."""

    COMPLETE = "complete"
    RED = "red verdict"
    ESCALATE = "escalate"
    FAILED = "failed"
    ASKS = "asks"
    TIMEOUT = "timeout"
    CRASH = "crash"
    LOST = "lost"
    SILENT = "no fenced JSON"
    STRANGER = "another agent's name"
    UNKNOWN = "unknown status"
    SPEECHLESS = "no summary"
    UNDECIDED = "no verdict"


class Brief:
    """Shows what differs from the ordinary, so that a scenario can be read and pasted."""

    def __repr__(self) -> str:
        told = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type] # its subclasses are dataclasses
        usual = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type] # as above
        said = (f"{n}={_said(value)}" for n, value in told.items() if value != usual[n])
        return f"{type(self).__name__}({', '.join(said)})"


def _said(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Kind) else repr(value)


@dataclass(frozen=True, repr=False)
class Outcome(Brief):
    """What one run does.

    `writes` shares a file with every other agent that does so, which makes merges conflict;
    `breaks` is a build that does not pass with what the run leaves.
    """

    kind: Kind = Kind.COMPLETE
    words: str = ""
    owner: str = ""
    flags: tuple[str, ...] = ()
    writes: bool = False
    breaks: str = ""
    minutes: int = 1


@dataclass(frozen=True, repr=False)
class Turn(Brief):
    """The nth run of a stage, or of an agent's fixes (`fix roy`), goes otherwise."""

    who: str
    nth: int
    outcome: Outcome


@dataclass(frozen=True, repr=False)
class Scenario(Brief):
    """One requirement's fate.

    `answers` choose among what a human is offered, then the human gives up; an `eager` one answers
    while fixes run. `flags` are what testers raise where no turn says otherwise; `target` says what
    somebody else does to the target branch meanwhile. Workflows continue as new after `history`
    events.
    """

    pipeline: str
    turns: tuple[Turn, ...] = ()
    answers: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    eager: bool = False
    target: str = ""
    sequential: bool = False
    bounds: Bounds = REPAIR
    history: int = EVENTS

    def outcome(self, who: str, nth: int) -> Outcome:
        """What that run does."""
        said = {(turn.who, turn.nth): turn.outcome for turn in self.turns}
        return said.get((who, nth), Outcome(flags=self.flags))


def _built(stage: Stage, build: str) -> Stage:
    return replace(stage, builds=(build,), retries=1)


_SMALL = a_plan(
    _built(a_stage("Backend Implementation", "roy"), "backend"),
    a_stage("Backend QA", "billy", ["Backend Implementation"]),
    a_stage("Security Testing", "vic", ["Backend QA"], flag="needs_vic"),
    a_stage("DevOps Deployment", "berry", ["Security Testing"]),
)
_WIDE = a_plan(
    a_stage("Research", "cynthia"),
    a_stage("Critique", "sylvia", ["Research"]),
    _built(a_stage("Backend Implementation", "roy", ["Critique"]), "backend"),
    _built(a_stage("Frontend Implementation", "jen", ["Critique"]), "frontend"),
    a_stage("Statistics", "priya", ["Backend Implementation", "Frontend Implementation"]),
)
PLANS: Mapping[str, Pipeline] = MappingProxyType(
    {name: shipped(name) for name in ("standard", "critical-path", "final-stages")}
    | {"small": _SMALL, "wide": _WIDE}
)
