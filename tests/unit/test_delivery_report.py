from dataclasses import replace

from pipeline.delivery_report import (
    LENGTH_LIMIT,
    DeliveryFacts,
    ReportedFailure,
    ReportedFix,
    ReportedGate,
    ReportedStage,
    delivery_report,
    quoted,
)
from pipeline.model import NO_COST, Cost, Tokens

COST = Cost(usd=0.5, tokens=Tokens(1000, 200, 30))
ROY = ReportedStage("Backend", "roy", "completed", "Greets | in @French", 2, 61.0, COST)
FACTS = DeliveryFacts(
    number="REQ-1",
    title="Greet",
    description="In full.",
    stages=(ROY, replace(ROY, stage="Security", agent="vic", state="skipped", summary="")),
    gates=(ReportedGate("build backend", "c" * 40, True, 3.2),),
    failures=(ReportedFailure("Backend", "build backend", "build", "closes #3\n```\nerror"),),
    fixes=(ReportedFix("REQ-1-FIX-1", "roy", "build backend", "DELIVERED", "done", NO_COST),),
    cost=COST,
)


def test_it_says_who_did_what_on_which_commit_and_what_it_cost() -> None:
    report = delivery_report(FACTS, "c" * 40)

    assert report.startswith("In full.\n\n## What was done\n\n| stage |")
    row = "| Backend | roy | Greets \\| in @\u2060French | 2 | 1 min 1 s | "
    assert row in report
    assert "| Security | vic | skipped |" in report
    assert f"- build backend: green on `{'c' * 10}`, which is delivered, 3 s" in report
    assert "- REQ-1-FIX-1: roy repaired build backend: DELIVERED. done" in report
    assert "````text\ncloses #3\n```\nerror\n````" in report
    assert "$0.5000" in report.partition("## Cost")[2]


def test_what_never_happened_has_no_section() -> None:
    nothing = replace(FACTS, description="", failures=(), fixes=(), cost=NO_COST)

    report = delivery_report(nothing, "d" * 40)

    assert [line for line in report.splitlines() if line.startswith("## ")] == [
        "## What was done",
        "## Gates",
    ]
    assert "which is delivered" not in report


def test_words_of_agents_mean_nothing_to_a_forge() -> None:
    said = quoted("@team closes #12, GH-7, <img src=x> [a](http://b) `c`\n## Title")

    for mark in ("@team", "#12", "GH-7", "://b", "\n"):
        assert mark not in said
    assert "\\<img src=x\\> \\[a\\]" in said


def test_it_fits_what_a_forge_takes() -> None:
    many = replace(FACTS, failures=[replace(FACTS.failures[0], error="x" * 9_000)] * 100)

    assert len(delivery_report(many, "c" * 40)) < LENGTH_LIMIT + 100
