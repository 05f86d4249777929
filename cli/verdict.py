"""What a requirement's state means, in one sentence: what it does, and who must act."""

from collections.abc import Iterator
from itertools import islice

from adapters.sdlc.views import RequirementView
from cli import output
from pipeline.model import HUMAN, ORCHESTRATOR, RequirementState, StageState

_NAMED = 2
"""Names in a sentence; the others are counted."""
NOBODY = "nobody needs to act"


def needs_human(view: RequirementView) -> bool:
    """Whether only an answer continues it, and the question can be shown already.

    It is about the requirement, about the accounts or the budget that hold all of it, or about the
    budget that holds its fixes.
    """
    if view.state is RequirementState.HELD:
        is_asked = bool(view.holds) and all(hold.needs_human for hold in view.holds)
        return is_asked and not any(stage.state is StageState.RUNNING for stage in view.stages)
    if view.is_out_of_budget:
        return True
    is_blocked = view.state is RequirementState.BLOCKED
    return is_blocked and view.waiting_for == HUMAN and view.escalation is not None


def verdict(view: RequirementView) -> str:
    """The sentence; what is wrong follows it elsewhere."""
    paused = " It is paused: nothing new starts." if view.pauses else ""
    match view.state:
        case RequirementState.ACCEPTED:
            return f"It waits for a host.{paused}"
        case RequirementState.RUNNING:
            return f"{_listed(_at_work(view)) or _between(view)}.{paused}"
        case RequirementState.HELD:
            return _held(view)
        case RequirementState.BLOCKED:
            return f"{_blocked(view)}{paused}"
    return output.plain(output.first_line(view.reason))


def _held(view: RequirementView) -> str:
    if view.pauses:
        return f"It is paused by {view.pauses[0].who}, until: {view.pauses[0].end}"
    if needs_human(view):
        return "A human must see to an account or a budget; nothing runs meanwhile."
    if view.turn:
        return f"{output.plain(view.turn.text)} {NOBODY.capitalize()}."
    by = _listed(dict.fromkeys(name for hold in view.holds for name in hold.held_by))
    return f"It waits for {by or view.waiting_for or 'what holds it'}; {NOBODY}."


def _blocked(view: RequirementView) -> str:
    if view.is_out_of_budget:
        return "A human must raise its budget; its fixes are held."
    if view.waiting_for == HUMAN:
        asks = len(view.escalation.asks) if view.escalation else 0
        questions = "a question" if asks <= 1 else f"{asks} questions"
        return f"A human must answer {questions}."
    if view.waiting_for == ORCHESTRATOR:
        return f"The orchestrator sees to what is red; {NOBODY}."
    also = HUMAN in view.waiting_for.split(", ")
    fixes = [fix for fix in view.fixes if not fix.state.is_final]
    repairs = _listed(f"{fix.assignee} repairs {fix.gate}" for fix in fixes)
    repairs = repairs or f"It waits for {view.waiting_for}"
    return f"{repairs}; {'a human must answer as well' if also else NOBODY}."


def _between(view: RequirementView) -> str:
    """What it does while neither an agent nor a build runs."""
    over = (StageState.COMPLETED, StageState.SKIPPED)
    is_over = bool(view.stages) and all(stage.state in over for stage in view.stages)
    return "It is being delivered" if is_over else "It is between two steps"


def _at_work(view: RequirementView) -> Iterator[str]:
    """What is under way, by name."""
    for stage in view.stages:
        if stage.state is StageState.RUNNING:
            does = "clone is being prepared" if stage.is_preparing else "works"
            yield f"{stage.stage} ({stage.agent}) {does}"
    yield from (f"build {build.build} runs" for build in view.building)
    yield from (f"{each.stage} is queued for a slot" for each in view.queued)


def _listed(names: "Iterator[str] | dict[str, None]") -> str:
    """The first names, and how many more there are."""
    named = list(names)
    more = len(named) - _NAMED
    shown = ", ".join(islice(named, _NAMED))
    return f"{shown} and {more} more" if more > 0 else shown
