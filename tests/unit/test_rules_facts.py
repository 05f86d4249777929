"""What is answered from the plan, the bounds and the records of the asking requirement."""

from dataclasses import replace

import pytest

from pipeline.model import Mode, Priority, RequirementState
from pipeline.questions import Decision, Question, RequirementFacts, Verdict, under_floor
from pipeline.rules import decide
from tests.facts import running, some_facts

YES, NO, UNCLEAR = Verdict.YES, Verdict.NO, Verdict.UNCLEAR


def decision(question: str, facts: RequirementFacts | None, agent: str = "roy") -> Decision:
    return decide(Question(agent, question, "REQ-101"), facts)


@pytest.mark.parametrize(
    ("plan", "agent", "question", "answer"),
    [
        ("standard", "roy", "May I run in parallel with jen?", YES),
        ("standard", "roy", "May I work at the same time as Frontend Implementation?", YES),
        ("standard", "roy", "May I run in parallel with billy?", NO),
        ("standard", "billy", "May I run concurrently with roy?", NO),
        ("standard", "ada", "May priya and berry run in parallel?", NO),
        ("final-stages", "ada", "May priya and berry run in parallel?", YES),
        ("standard", "roy", "May I run in parallel with everybody?", UNCLEAR),
    ],
)
def test_what_runs_beside_what_stands_in_the_plan(
    plan: str, agent: str, question: str, answer: Verdict
) -> None:
    assert decision(question, some_facts(plan), agent).answer is answer


def test_nothing_runs_in_parallel_in_sequential_mode() -> None:
    facts = some_facts(mode=Mode.SEQUENTIAL)

    assert decision("May I run in parallel with jen?", facts).answer is NO


@pytest.mark.parametrize(
    ("minutes", "answer", "said"),
    [(120, YES, "up to 360"), (300, YES, "has 300 minutes"), (360, NO, "all of its 360")],
)
def test_a_deadline_is_extended_up_to_its_bound(minutes: float, answer: Verdict, said: str) -> None:
    # roy: 60 minutes in the plan, 120 until the deadline, three times that at most
    given = decision("May I extend my deadline?", running(some_facts(), "roy", minutes))

    assert given.answer is answer
    assert said in given.reason


def test_only_a_running_stage_is_extended() -> None:
    assert decision("May I have more time?", some_facts()).answer is NO


@pytest.mark.parametrize(("attempt", "answer"), [(1, YES), (2, NO)])
def test_retries_are_counted(attempt: int, answer: Verdict) -> None:
    # roy has one retry
    facts = running(some_facts(), "roy", attempt=attempt)

    assert decision("May I retry?", facts).answer is answer
    assert decision("How many retries are left?", replace(facts, fixes={"qa": 2})).answer is answer


def test_the_p0_gate_holds_others_and_lets_the_p0_and_its_blockers_pass() -> None:
    question = "May I start although a P0 is open?"
    others = some_facts(open_p0s=("REQ-9",))

    assert decision(question, others).answer is NO
    assert "Open now: REQ-9." in decision(question, others).reason
    assert decision(question, replace(others, blocks_p0=True)).answer is YES
    assert decision(question, replace(others, priority=Priority.P0)).answer is YES
    assert (
        decision("May I ignore the P0 and skip QA?", replace(others, blocks_p0=True)).answer is NO
    )
    assert (
        decision(
            "May I start another one, P3, in parallel to a P0?", replace(others, blocks_p0=True)
        )
    ).answer is NO


@pytest.mark.parametrize(
    ("state", "waiting", "answer"),
    [
        (RequirementState.RUNNING, "", NO),
        (RequirementState.HELD, "REQ-9", YES),
        (RequirementState.BLOCKED, "REQ-101-FIX-1", YES),
        (RequirementState.FAILED, "", NO),
    ],
)
def test_why_somebody_waits_is_said(state: RequirementState, waiting: str, answer: Verdict) -> None:
    facts = running(some_facts(state=state, waiting_for=waiting, reason="why"), "roy")

    for question in ("Am I on hold?", "Why do I wait?"):
        given = decision(question, facts)
        assert given.answer is answer
        assert waiting in given.reason
        assert "why" in given.reason


def test_a_stage_that_waits_names_what_for() -> None:
    given = decision("Why does my stage wait?", running(some_facts(), "roy"), "billy")

    assert given.answer is YES
    assert "waiting for Backend Implementation, Frontend Implementation" in given.reason


def test_a_state_is_confirmed_or_denied_and_never_guessed() -> None:
    facts = some_facts()

    assert decision("Is REQ-101 delivered?", facts).answer is NO
    assert decision("Is my requirement running?", facts).answer is YES
    stands = decision("What state is my requirement in?", facts)
    assert stands.answer is UNCLEAR
    assert "REQ-101 (P2) is RUNNING" in stands.reason


def test_nobody_is_told_to_go_on() -> None:
    for state in RequirementState:
        assert decision("May I continue?", some_facts(state=state)).answer is not YES
    held = some_facts(state=RequirementState.HELD)
    assert "by itself" in decision("May I continue?", held).reason
    over = decision("May I continue?", some_facts(state=RequirementState.DELIVERED))
    assert "by itself" not in over.reason
    assert decision("Am I on hold or may I continue?", held).answer is UNCLEAR


def test_berry_alone_deploys_and_only_while_her_stage_runs() -> None:
    question = "May I deploy now?"

    assert decision(question, running(some_facts(), "berry"), "berry").answer is YES
    assert decision(question, some_facts(), "berry").answer is UNCLEAR
    assert decision(question, running(some_facts(), "roy"), "roy").answer is NO
    assert decision("May I push to main?", running(some_facts(), "berry"), "berry").answer is NO


def test_groups_of_a_running_requirement_are_not_changed_by_a_human_either() -> None:
    assert decision("Can I modify parallelization groups?", some_facts(), "human").answer is NO


@pytest.mark.parametrize(
    ("floor", "advice", "answer"),
    [
        (YES, YES, YES), (YES, UNCLEAR, UNCLEAR), (YES, NO, NO),
        (UNCLEAR, YES, UNCLEAR), (UNCLEAR, UNCLEAR, UNCLEAR), (UNCLEAR, NO, NO),
        (NO, YES, NO), (NO, UNCLEAR, NO), (NO, NO, NO),
    ],
)  # fmt: skip
def test_advice_never_makes_a_ruling_milder(
    floor: Verdict, advice: Verdict, answer: Verdict
) -> None:
    given = under_floor(Decision(floor, "rule", "Because."), advice, "Go ahead!")

    assert given.answer is answer
    is_milder = advice.strictness < floor.strictness
    assert ("Go ahead!" in given.reason) is not is_milder
