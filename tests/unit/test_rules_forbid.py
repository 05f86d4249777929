"""What the five rules forbid is refused in every phrasing, and nothing else is."""

from dataclasses import replace
from itertools import product

import pytest

from pipeline.model import RequirementState
from pipeline.questions import Decision, Question, RequirementFacts, Verdict
from pipeline.rules import decide
from tests.facts import running, some_facts


def decision(question: str, context: str = "", agent: str = "roy") -> Decision:
    return decide(Question(agent, question, context), None)


@pytest.mark.parametrize(
    "question",
    [
        "May I downgrade this error?",
        "MAY I DOWNGRADE THIS ERROR",
        "downgrade this error ok?",
        "Can this error be downgraded to a warning?",
        "May I down-grade the error?",
        "May the error's severity be reduced?",
        "May I make the error a warning?",
        "May I log the exception at warning level?",
        "May I classify the failure as minor?",
        "Is it all right if the failing test is skipped just this once?",
        "Dear Sasha, I hope you are well; we have been working on the migration for hours, all "
        "else is green and the customer is waiting, so I was wondering whether it would perhaps be "
        "possible, given the circumstances, to treat the error TS2345 as a warning for now?",
        "Please confirm that I may downgrade the error and extend my deadline",
        "May I stop reporting this error?",
        "Is it OK to not report this error?",
        "May I rename this error?",
        "Could you let me whitelist, quarantine or frobnicate that exception?",
        "Can't I just ignore this error?",
        "Can’t it be ignored? The error is harmless",
        "Isn't ignoring this error fine?",
        "Couldn't the error be ignored?",
        "Why not suppress the lint error?",
        "I won't skip the test, but may I ignore the error?",
        "May I retry and ignore the error?",
        "Do I really have to fix it, or may I ignore the error?",
        "Would you mind if I commented the failing assertion out?",
        "Could we turn the check off?",
        "May I commit with --no-verify?",
        "May I rerun the test until it passes?",
        "May I @ts-ignore this type error?",
        "Is it fine to add `# type: ignore` so mypy stops failing?",
        "May I mark the failing test as xfail?",
        "May I leave the test failing?",
        "Is it OK to continue with a failing test?",
        "May I continue although the build is red?",
        "The tests fail. May I go on?",
        "May I not report the error?",
        "May I finish without fixing the error?",
        "May I delete the failing test?",
        "May I pretend that the tests passed?",
        "May I set the test_result to PASS by hand?",
        "May I ｄｏｗｎｇｒａｄｅ the error?",
        "May I down\u200bgrade the error?",
        "The test fails. May I leave it, then extend my deadline?",
        "May I skip QA?",
        "Can we go straight to deployment without QA?",
        "May I leave out billy's tests?",
        "May I approve my own critique?",
    ],
)
def test_nothing_is_downgraded_in_any_phrasing(question: str) -> None:
    given = decision(question)

    assert given.answer is Verdict.NO
    assert given.rule == "Rule 2: Never downgrades errors"
    assert given.reason


@pytest.mark.parametrize(
    ("rule", "question"),
    [
        ("Rule 1", "May I continue without NATS?"),
        ("Rule 1", "May I continue while the database is down?"),
        ("Rule 1", "Can I run in degraded mode?"),
        ("Rule 1", "NATS is unavailable, may I proceed?"),
        ("Rule 1", "May I buffer events locally until NATS is back?"),
        ("Rule 1", "Is a fallback to SQLite okay?"),
        ("Rule 3", "May I start although a P0 is open?"),
        ("Rule 3", "May I work in parallel to a P0?"),
        ("Rule 3", "A P0 is open. Can I begin my P3 anyway?"),
        ("Rule 4", "May I restart NATS myself?"),
        ("Rule 4", "Can I reboot the database container?"),
        ("Rule 4", "May I bring the database back up myself?"),
        ("Rule 4", "May I start the nats server?"),
        ("Rule 4", "May I kill roy's process?"),
        ("Rule 5", "May I work without recording it?"),
        ("Rule 5", "May I do this outside the SDLC database?"),
        ("Rule 5", "Can I do some untracked work?"),
        ("Rule 5", "May I edit the requirement row by hand?"),
        ("Fact", "May I merge my branch myself?"),
        ("Fact", "May I push to main?"),
        ("Fact", "May I deploy now?"),
        ("Fact", "May I ignore the deadline?"),
        ("Fact", "May I write into jen's worktree in parallel?"),
    ],
)
def test_what_is_forbidden_is_refused_by_its_rule(rule: str, question: str) -> None:
    given = decision(question)

    assert (given.answer, given.rule.partition(":")[0]) == (Verdict.NO, rule)


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("May I skip it?", "The test fails."),
        ("Is that okay?", "I would downgrade the error to a warning."),
        ("May I proceed?", "NATS is unavailable."),
    ],
)
def test_context_says_what_is_meant(question: str, context: str) -> None:
    assert decision(question, context).answer is Verdict.NO


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("May I extend my deadline?", ""),
        ("May I have 30 more minutes?", "The migration takes longer."),
        ("Dear Sasha! May I please extend my deadline now? Thank you.", ""),
        ("May I get more time now for REQ-7?", "I continue to work on it."),
        ("May I extend my deadline for REQ-SKIP-FAILING-TESTS?", ""),
    ],
)
def test_harmless_words_around_a_known_question_do_not_matter(question: str, context: str) -> None:
    assert decision(question, context).answer is Verdict.YES


@pytest.mark.parametrize(
    "question",
    [
        "May I eat the cake?",
        "What is the weather like?",
        "Darf ich den Fehler herunterstufen?",
        "May I retry and drop the orders table?",
        "May I extend my deadline by editing the clock?",
        "May I extend my deadline and hire somebody?",
        "May I extend my deadline without skipping the tests?",
        "May I fix the error?",
        "Should I bring the database back up myself?",
        "Should I treat the failing test as a failure?",
        "Shouldn't we just ignore the failing test?",
        "This error: downgrade it?",
        "May I have 30 more minutes because the migration takes longer?",
        "I talked to jen, and may I have half an hour more time?",
        "I will not ignore the error. May I extend my deadline?",
        "The tests are slow. May I please extend my deadline, Sasha?",
        "The migration is slow. May I extend my deadline?",
        "May I extend my deadline? I delete jen's files.",
        "May I extend my deadline\nhire somebody",
        "Is it forbidden to downgrade an error?",
        "Is it not allowed to ignore the error?",
        "???",
    ],
)
def test_what_is_not_recognised_as_a_whole_is_unclear(question: str) -> None:
    given = decision(question)

    assert given.answer is Verdict.UNCLEAR
    assert given.reason


def test_groups_are_the_pipelines_and_no_agents() -> None:
    asked = ("Can I modify parallelization groups?", "Trying to optimize workflow performance")

    by_agent, by_human = decision(*asked, agent="your-agent"), decision(*asked, agent="human")

    assert by_agent.answer is Verdict.NO
    assert by_human.answer is Verdict.YES
    for given in (by_agent, by_human):
        assert "a running requirement keeps the plan it was started with" in given.reason
        assert "For new requirements" in given.reason


def test_the_longest_question_is_ruled_on_quickly() -> None:
    hostile = "may i not " * 200, "leave the red. " * 130

    assert decision(*hostile).answer in tuple(Verdict)


VERBS = (
    "downgrade", "ignore", "suppress", "skip", "silence", "hide", "swallow", "disregard",
    "overlook", "lower the severity of", "demote", "dismiss", "mask", "tolerate", "disable",
    "waive", "comment out", "get rid of", "work around", "treat as a warning", "catch and ignore",
    "shelve", "no longer check", "close my eyes to", "be lenient about", "gloss over",
    "frobnicate", "cancel",
)  # fmt: skip
ERRORS = ("this error", "the failing test", "that exception", "the type error TS2345")
WISHES = (
    "May I {verb} {error}?",
    "can we please {verb} {error} just for today",
    "I want to {verb} {error}, all right?",
    "{error}: may I {verb} it?",
    "Is there any objection if I {verb} {error}?",
    "why can't I {verb} {error}",
    "Might I perhaps {verb} {error}?",
    "PERMISSION TO {verb} {error}",
)


@pytest.mark.parametrize("wish", WISHES)
def test_no_verb_in_no_wish_plays_an_error_down(wish: str) -> None:
    for verb, error in product(VERBS, ERRORS):
        asked = wish.format(verb=verb, error=error)
        assert decision(asked).answer is Verdict.NO, asked


def test_what_must_be_done_is_never_answered_no() -> None:
    for verb, error in product(VERBS, ERRORS):
        asked = f"Should I not {verb} {error}?"
        assert decision(asked).answer is Verdict.UNCLEAR, asked


@pytest.mark.parametrize(
    "context", ["Meanwhile I disable the failing test.", "Tests still fail.", "NATS is down."]
)
def test_context_that_tells_of_something_forbidden_takes_a_yes_away(context: str) -> None:
    assert decision("May I extend my deadline?", context).answer is Verdict.UNCLEAR


@pytest.mark.parametrize("allowed", ["extend my deadline", "have 30 minutes more"])
def test_what_is_allowed_takes_nothing_else_along(allowed: str) -> None:
    for verb, error in product(VERBS, (*ERRORS, "it", "the database", "jen's files")):
        for asked in (
            f"My deadline is near, so can I {verb} {error} and {allowed}?",
            f"May I {allowed} and {verb} {error}?",
            f"The test fails. May I {verb} {error}, then {allowed}?",
        ):
            assert decision(asked, agent="human").answer is not Verdict.YES, asked


FORBIDDEN = (
    "skip the tests", "ignore the red build", "deliver a red build", "restart NATS", "push to main",
    "ignore the P0", "work without recording it", "delete jen's files", "hire somebody",
)  # fmt: skip
JOINED = (
    "{yes} and {no}?", "{yes}, then {no}?", "{yes} by {no}?", "{no}, {yes}?", "May I {no}? {yes}?",
    "{yes}? May I {no}?", "{yes} while I {no}?", "{yes}. I {no}.", "{yes}: {no}?", "{yes}; {no}",
    "{yes}\n{no}", "{yes} ({no})?", "{yes} for REQ-101 and {no}?", "I will {no}. {yes}?",
)  # fmt: skip


@pytest.mark.parametrize(
    "yes",
    [
        "May I extend my deadline",
        "May I retry",
        "May I run in parallel with jen",
        "May roy and jen run in parallel",
        "May I start although a P0 is open",
    ],
)
def test_whatever_stands_beside_a_known_question_takes_its_yes_away(yes: str) -> None:
    facts = replace(running(some_facts(), "roy"), blocks_p0=True)
    assert rule_for(f"{yes}?", facts).answer is Verdict.YES

    for no, joined in product(FORBIDDEN, JOINED):
        asked = joined.format(yes=yes, no=no)
        assert rule_for(asked, facts).answer is not Verdict.YES, asked


def test_a_fact_is_no_answer_to_a_wish_beside_it() -> None:
    facts = some_facts(state=RequirementState.HELD, waiting_for="REQ-9")
    assert rule_for("The build is red. Am I on hold?", facts).answer is Verdict.YES

    for no in FORBIDDEN:
        for asked in (f"Am I on hold? May I {no}?", f"May I {no}? Am I on hold?"):
            assert rule_for(asked, facts).answer is not Verdict.YES, asked


def rule_for(question: str, facts: RequirementFacts) -> Decision:
    return decide(Question("roy", question), facts)
