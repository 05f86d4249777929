"""Facts of a requirement, as its rows would show them."""

from dataclasses import replace
from datetime import timedelta

from pipeline.model import Mode, Priority, RequirementState, StageState
from pipeline.questions import RequirementFacts, StageFacts
from tests.plans import shipped

NUMBER = "REQ-101"


def some_facts(plan: str = "standard", **changes: object) -> RequirementFacts:
    """A requirement of a shipped pipeline in which nothing has started."""
    pipeline = shipped(plan)
    stages = tuple(
        StageFacts(stage, StageState.WAITING, 0, "", stage.deadline) for stage in pipeline.stages
    )
    facts = RequirementFacts(
        number=NUMBER,
        priority=Priority.P2,
        state=RequirementState.RUNNING,
        mode=Mode.PARALLEL,
        reason="",
        waiting_for="",
        pipeline=pipeline,
        stages=stages,
    )
    return replace(facts, **changes)  # type: ignore[arg-type] # the fields of the caller


def running(
    facts: RequirementFacts, agent: str, minutes: float | None = None, attempt: int = 1
) -> RequirementFacts:
    """The same with the agent's stage running, its deadline perhaps moved to those minutes."""

    def run(each: StageFacts) -> StageFacts:
        if each.stage.agent != agent:
            return each
        deadline = each.stage.deadline if minutes is None else timedelta(minutes=minutes)
        run_id = f"{facts.number}/run/{each.stage.name}/{attempt}"
        return StageFacts(each.stage, StageState.RUNNING, attempt, run_id, deadline)

    return replace(facts, stages=tuple(run(each) for each in facts.stages))
