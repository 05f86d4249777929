"""What the records know of a requirement that asks about the rules, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.model import Mode, Pipeline, Priority, RequirementState, Stage, StageState
from pipeline.numbers import slug


@dataclass(frozen=True)
class StageFacts:
    """A stage and its latest run; `deadline` counts from that run's start, extensions included."""

    stage: Stage
    state: StageState
    attempt: int
    run_id: str
    deadline: timedelta


@dataclass(frozen=True)
class RequirementFacts:
    """A requirement as its rows show it at one moment.

    `stages` are in plan order; `fixes` counts the fixes opened so far, by gate; `open_p0s` are the
    P0 requirements that have not ended, and `blocks_p0` says whether one of them waits for this.
    """

    number: str
    priority: Priority
    state: RequirementState
    mode: Mode
    reason: str
    waiting_for: str
    pipeline: Pipeline
    stages: tuple[StageFacts, ...]
    fixes: Mapping[str, int] = field(default_factory=dict)
    open_p0s: tuple[str, ...] = ()
    blocks_p0: bool = False

    def of_agent(self, agent: str) -> StageFacts | None:
        """The agent's stage: the one that runs, else the first of the plan; None if it has none."""
        own = [each for each in self.stages if each.stage.agent == agent]
        running = [each for each in own if each.state is StageState.RUNNING]
        return next(iter(running or own), None)

    def named_in(self, text: str) -> tuple[Stage, ...]:
        """The stages that a text names, by their own name or their agent's, in plan order."""
        words = f"-{slug(text)}-"
        return tuple(
            each.stage
            for each in self.stages
            if f"-{slug(each.stage.name)}-" in words or f"-{each.stage.agent}-" in words
        )

    @property
    def passes_p0_gate(self) -> bool:
        """Whether an open P0 does not hold it: it is one itself, or one waits for it."""
        return self.priority is Priority.P0 or self.blocks_p0
