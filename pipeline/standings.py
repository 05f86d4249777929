"""Where a requirement stands and what is left of its bounds, as answers to its agents' questions.

`yes` and `no` say whether what was asked holds; neither is ever a permission to go on.
"""

from pipeline.model import RequirementState, StageState
from pipeline.permissions import NAME_IT, Topic, retries_left
from pipeline.rule_facts import RequirementFacts, StageFacts
from pipeline.rule_words import words
from pipeline.rulings import Question, Ruling, Verdict

RECORDS = "Fact: the records of the requirement"
BOUNDS = "Fact: the bounds of the requirement's pipeline"

_STATES = {
    RequirementState.ACCEPTED: words("accepted"),
    RequirementState.RUNNING: words("running", "in progress", "under way", "active"),
    RequirementState.HELD: words("held", "on hold"),
    RequirementState.BLOCKED: words("blocked", "stuck"),
    RequirementState.DELIVERED: words("delivered", "done", "finished", "complete", "completed"),
    RequirementState.FAILED: words("failed"),
    RequirementState.CANCELLED: words("cancell?ed"),
}
_GOING_ON = (RequirementState.ACCEPTED, RequirementState.RUNNING)


def _waiting(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    if facts is None:
        return _unknown()
    if facts.state.is_final:
        return _over(facts)
    own = facts.of_agent(question.agent)
    said = [_stands(facts), *([_stage_stands(facts, own)] if own else [])]
    waits = facts.state not in _GOING_ON or bool(facts.waiting_for)
    stage_waits = own is not None and own.state in (StageState.WAITING, StageState.HELD)
    answer = Verdict.YES if waits or stage_waits else Verdict.NO
    return Ruling(answer, RECORDS, " ".join(said))


def _state(question: Question, text: str, facts: RequirementFacts | None) -> Ruling:
    if facts is None:
        return _unknown()
    own = facts.of_agent(question.agent)
    reason = " ".join((_stands(facts), *([_stage_stands(facts, own)] if own else [])))
    named = [state for state, said in _STATES.items() if said.search(text)]
    if len(named) != 1:
        return Ruling(Verdict.UNCLEAR, RECORDS, f"{reason} That is no question for yes or no.")
    return Ruling(Verdict.YES if facts.state in named else Verdict.NO, RECORDS, reason)


def _left(question: Question, text: str, facts: RequirementFacts | None) -> Ruling:
    if facts is None:
        return _unknown()
    bounds = facts.pipeline.bounds
    fixes = max(0, bounds.reds - 1)
    used = ", ".join(f"{count} for {gate}" for gate, count in sorted(facts.fixes.items()))
    said = [
        f"A gate gets at most {fixes} fixes; opened so far: {used or 'none'}.",
        f"REQUEST_CHANGES sends research back at most {bounds.reviews} times.",
    ]
    left = fixes - max(facts.fixes.values(), default=0)
    if own := facts.of_agent(question.agent):
        retries = retries_left(own)
        said.append(f"{own.stage.name} has {retries} of {own.stage.retries} retries left.")
        left = retries if _RETRIES.search(text) else left
    return Ruling(Verdict.YES if left > 0 else Verdict.NO, BOUNDS, " ".join(said))


def _continue(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    if facts is None:
        return _unknown()
    if facts.state.is_final:
        return _over(facts)
    if facts.state not in _GOING_ON:
        return Ruling(Verdict.NO, RECORDS, f"{_stands(facts)} It goes on by itself afterwards.")
    reason = "A running agent works until its notice; what comes next the orchestrator starts."
    return Ruling(Verdict.UNCLEAR, RECORDS, f"{_stands(facts)} {reason}")


def _over(facts: RequirementFacts) -> Ruling:
    return Ruling(Verdict.NO, RECORDS, f"{_stands(facts)} Nothing of it waits or goes on any more.")


def _unknown() -> Ruling:
    return Ruling(Verdict.UNCLEAR, RECORDS, f"It is not known which requirement asks. {NAME_IT}")


def _stands(facts: RequirementFacts) -> str:
    waits = f", waiting for {facts.waiting_for}" if facts.waiting_for else ""
    why = f" ({facts.reason})" if facts.reason else ""
    return f"{facts.number} ({facts.priority}) is {facts.state}{waits}{why}."


def _stage_stands(facts: RequirementFacts, own: StageFacts) -> str:
    undone = [
        each.stage.name
        for each in facts.stages
        if each.stage.name in own.stage.needs and not each.state.is_done
    ]
    needs = f" for {', '.join(undone)}" if own.state is StageState.WAITING and undone else ""
    return f"{own.stage.name} is {own.state}{needs}."


_WAITING = words("held", "on hold", "waits?", "waiting", "what holds", "who holds", "holds?")
_STANDS = words(
    "stat(?:e|us)", "progress", "where (?:does|do|is|are|am)", "how far", "blocked", "stuck",
    "(?:is|has) (?:it|req|my requirement|the requirement) (?:\\w+ )?(?:running|done|"
    "delivered|finished|complete|completed|failed|cancell?ed|in progress)",
)  # fmt: skip
_LEFT = words("how (?:many|often|much)", "left", "remain~", "used up")
_COUNTED = words(
    "fix(?:es)?",
    "retr(?:y|ies)",
    "attempts?",
    "tries",
    "reviews?",
    "chances?",
    "rounds?",
)
_RETRIES = words("retr(?:y|ies)", "attempts?", "tries")
_CONTINUING = words("continu~", "proceed~", "go (?:on|ahead)", "carry on", "keep (?:going|working)")

STANDINGS = (
    Topic((_WAITING,), _waiting),
    Topic((_STANDS,), _state),
    Topic((_LEFT, _COUNTED), _left),
    Topic((_CONTINUING,), _continue),
)
"""In the order in which they are named."""
