"""What a pull request says of the work: who did what, gates, failures and fixes, costs. Markdown.

The words of agents and programs are quoted so that a forge takes none of them for its own: no
mention, no reference that closes an issue, no markup.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.costs import told
from pipeline.model import Cost

LENGTH_LIMIT = 60_000
"""Characters: GitHub takes 65,536."""
_WORDS, _ERROR, _REQUIREMENT = 300, 1_500, 4_000
_SHORT = 10
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~$])")
_REFERENCE = re.compile(r"([@#]|\b(?:GH-))(?=\w)|(://)")
"""What a forge makes a mention or a link of."""


@dataclass(frozen=True)
class ReportedStage:
    """A stage as it ended; `attempts` counts its runs."""

    stage: str
    agent: str
    state: str
    summary: str
    attempts: int
    seconds: float | None
    cost: Cost


@dataclass(frozen=True)
class ReportedGate:
    """The latest check of a gate."""

    gate: str
    commit: str
    is_green: bool
    seconds: float | None


@dataclass(frozen=True)
class ReportedFailure:
    """What was red on the way."""

    stage: str
    gate: str
    kind: str
    error: str


@dataclass(frozen=True)
class ReportedFix:
    """A fix: `assignee` repaired `gate`, and `reason` says how that ended."""

    number: str
    assignee: str
    gate: str
    state: str
    reason: str
    cost: Cost


@dataclass(frozen=True)
class DeliveryFacts:
    """What the rows tell of a requirement that is about to be delivered."""

    number: str
    title: str
    description: str
    stages: Sequence[ReportedStage]
    gates: Sequence[ReportedGate]
    failures: Sequence[ReportedFailure]
    fixes: Sequence[ReportedFix]
    cost: Cost


def delivery_report(facts: DeliveryFacts, commit: str) -> str:
    """The report, for the body of a pull request at that commit."""
    parts = (
        _requirement(facts),
        _section("What was done", _stages(facts.stages)),
        _section("Gates", _gates(facts.gates, commit)),
        _section("Failures and their fixes", (*_fixes(facts.fixes), *_failures(facts.failures))),
        _section("Cost", (f"{told(facts.cost)}",) if facts.cost.is_known else ()),
    )
    report = "\n\n".join(filter(None, parts))
    if len(report) > LENGTH_LIMIT:
        report = f"{report[:LENGTH_LIMIT]}\n\n… (the whole: `starter.py status {facts.number}`)"
    return f"{report}\n"


def quoted(words: str, limit: int = _WORDS) -> str:
    """Foreign words on one line, without a meaning of their own in Markdown."""
    line = " ".join(words.split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    escaped = _MARKUP.sub(r"\\\1", line)
    # A word joiner, which nobody sees, parts what would be read as a mention.
    return _REFERENCE.sub(lambda found: f"{found[0]}\u2060", escaped)


def _requirement(facts: DeliveryFacts) -> str:
    text = facts.description.strip()
    if not text:
        return ""
    return text if len(text) <= _REQUIREMENT else f"{text[:_REQUIREMENT]} …"


def _section(title: str, lines: Iterable[str]) -> str:
    body = "\n".join(lines)
    return f"## {title}\n\n{body}" if body else ""


def _stages(stages: Sequence[ReportedStage]) -> Iterable[str]:
    if not stages:
        return
    yield "| stage | agent | result | runs | time | cost |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in stages:
        result = quoted(each.summary) or each.state
        row = (each.stage, each.agent, result, str(each.attempts), _time(each.seconds))
        yield f"| {' | '.join((*map(str, row), told(each.cost) if each.cost.is_known else ''))} |"


def _gates(gates: Sequence[ReportedGate], commit: str) -> Iterable[str]:
    for gate in gates:
        verdict = "green" if gate.is_green else "red"
        exact = ", which is delivered" if gate.commit == commit else ""
        taken = f", {_time(gate.seconds)}" if gate.seconds is not None else ""
        yield f"- {quoted(gate.gate)}: {verdict} on `{gate.commit[:_SHORT]}`{exact}{taken}"


def _fixes(fixes: Sequence[ReportedFix]) -> Iterable[str]:
    for fix in fixes:
        cost = f" ({told(fix.cost)})" if fix.cost.is_known else ""
        yield (
            f"- {fix.number}: {fix.assignee} repaired {quoted(fix.gate)}: {fix.state}{cost}."
            f" {quoted(fix.reason)}"
        )


def _failures(failures: Sequence[ReportedFailure]) -> Iterable[str]:
    for failure in failures:
        yield f"\n{quoted(failure.gate)} of {failure.stage} was red ({failure.kind}):\n"
        yield _fenced(failure.error)


def _fenced(words: str) -> str:
    """The words as a block of code whose fence is longer than any in them."""
    text = words.strip()[-_ERROR:]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
