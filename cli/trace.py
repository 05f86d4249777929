"""`report --trace`: what each run was told, answered and changed, and by which rule it was judged.

What agents and users wrote stands in fences, or escaped: it is shown, and never markup of ours.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import (
    EscalationView,
    FailureView,
    FixView,
    GateView,
    NoteView,
    RequirementView,
    RunView,
    StageView,
)
from cli import output
from cli.prompt import told_prompt
from pipeline.costs import told
from pipeline.errors import UnknownRequirement
from pipeline.model import FailureKind
from pipeline.verdicts import Decision, decision
from settings import Settings

_OF_BUILDS = (FailureKind.BUILD, FailureKind.DELIVERY)
"""Failures that name a stage, and judge something else than its run."""

_MARKS = re.compile(r"([\\`*_\[\]<>|&~$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""What is markup within a line, or makes a link of it."""


@dataclass(frozen=True)
class Record:
    """One run: what its agent was told and answered, and what was made of it.

    `prompt` is None where it is not known, `no_prompt` says why. `gates` are those of its stage
    that were decided after it.
    """

    number: str
    run: RunView
    prompt: str | None
    no_prompt: str
    decision: Decision
    gates: tuple[GateView, ...]
    failures: tuple[FailureView, ...]

    @property
    def answer(self) -> str:
        """The accepted notice as JSON text; empty if none was."""
        notice = self.run.notice
        return json.dumps(notice, ensure_ascii=False, indent=2) if notice else ""

    def lines(self) -> Iterator[tuple[str, str]]:
        """The facts, by their names; those that are not known are left out."""
        run = self.run
        yield "Decision", self.decision.said
        yield "Rule", self.decision.rule
        yield "Why", output.first_line(run.error)
        yield "Opened", output.moment(run.opened_at)
        if run.started_at:
            yield "Agent started", output.moment(run.started_at)
        if run.ended_at:
            yield "Agent ended", output.moment(run.ended_at)
        if run.seconds is not None:
            yield "Worked", output.duration(run.seconds)
        ended = f"{run.end}, exit code {run.exit_code}" if run.end else ""
        yield "Ended by", f"{ended}, {run.ending}" if run.ending else ended
        yield "Started on commit", run.base_commit or ""
        yield "Its own commit", run.commit or ""
        yield "Merged as", run.head_commit or ""
        yield "Left out", "; ".join(run.remarks)
        yield "Session", run.session
        yield "Host", run.host or ""
        yield "Log", run.log_reference
        yield "Cost", told(run.cost)


@dataclass(frozen=True)
class Trace:
    """Every run of a requirement and of its fixes, in the order of their opening."""

    view: RequirementView
    records: tuple[Record, ...]
    questions: tuple[EscalationView, ...]
    notes: tuple[NoteView, ...]

    @property
    def not_run(self) -> tuple[StageView, ...]:
        """The stages that no agent was asked for."""
        ran = {each.run.stage for each in self.records if each.number == self.view.number}
        return tuple(stage for stage in self.view.stages if stage.stage not in ran)


async def read_trace(settings: Settings, reader: SdlcReader, view: RequirementView) -> Trace:
    """Rows and, of runs on this host, the prompts in their directories."""
    everybody: tuple[RequirementView | FixView, ...] = (view, *view.fixes)
    plan = (await reader.order(view.number)).pipeline
    roles = {stage.agent: stage.member.role for stage in plan.stages}
    found = [
        record
        for each in everybody
        for record in _records(
            settings,
            each,
            await reader.runs(each.number),
            await reader.failures(each.number),
            roles,
        )
    ]
    found.sort(key=lambda record: record.run.opened_at)
    questions = await reader.escalations(view.number)
    return Trace(view, tuple(found), questions, await reader.notes(view.number))


def _records(
    settings: Settings,
    whose: RequirementView | FixView,
    runs: Sequence[RunView],
    failures: Sequence[FailureView],
    roles: Mapping[str, str],
) -> Iterator[Record]:
    gates = whose.gates if isinstance(whose, RequirementView) else ()
    for run in runs:
        later = [
            each.opened_at
            for each in runs
            if each.stage == run.stage and each.attempt > run.attempt
        ]
        until = min(later, default=None)
        mine = tuple(
            each
            for each in failures
            if each.stage == run.stage
            and run.closed_at is not None
            and run.closed_at <= each.created_at
            and (until is None or each.created_at < until)
        )
        kinds = [each.kind for each in mine if each.kind not in _OF_BUILDS]
        prompt, no_prompt = _prompt(settings, run)
        yield Record(
            whose.number,
            run,
            prompt,
            no_prompt,
            decision(
                roles[run.agent],
                run.state,
                run.verdict,
                kinds[0] if kinds else None,
                is_answered=run.notice is not None,
                was_seen=run.end is not None,
            ),
            tuple(
                gate
                for gate in gates
                if gate.stage == run.stage
                and gate.ended_at is not None
                and gate.ended_at >= run.opened_at
                and (until is None or gate.ended_at < until)
            ),
            mine,
        )


def _prompt(settings: Settings, run: RunView) -> tuple[str | None, str]:
    """What the run's agent was told, or why that is not known."""
    try:
        text = told_prompt(settings, run)
    except UnknownRequirement as unknown:
        return None, str(unknown)
    return text, "" if text is not None else "The agent has not started."


# --- Markdown -------------------------------------------------------------------------------------


def markdown(trace: Trace) -> str:
    """The whole trace as one Markdown text."""
    return "\n".join(_parts(trace)).rstrip()


def _parts(trace: Trace) -> Iterator[str]:
    view = trace.view
    yield f"# Trace of {inline(view.number)}\n"
    yield from _facts(
        ("Title", view.title),
        ("State", str(view.state)),
        ("Reason", output.first_line(view.reason)),
        ("Pipeline", f"{view.pipeline}, {view.mode}"),
        ("Delivered as" if view.ended_at else "Integration tip", view.head_commit or ""),
        ("Cost", told(view.cost)),
    )
    if view.description:
        yield "\n## Task\n"
        yield fenced(view.description)
    for record in trace.records:
        yield from _record(trace, record)
    if trace.not_run:
        yield "\n## Not run\n"
        yield from _facts(
            *(
                (f"{each.stage} ({each.agent})", f"{each.state}. {each.reason}".rstrip())
                for each in trace.not_run
            )
        )
    for question in trace.questions:
        yield f"\n## Question {question.escalation} to a human\n"
        yield from _facts(*question_lines(question))
    if trace.notes:
        yield "\n## What set it going again\n"
        yield from _facts(*map(note_line, trace.notes))


def _record(trace: Trace, record: Record) -> Iterator[str]:
    yield f"\n## {inline(record_name(trace, record))}\n"
    yield from _facts(*record.lines())
    yield "\n### Prompt\n"
    yield fenced(record.prompt) if record.prompt is not None else inline(record.no_prompt)
    yield "\n### Answer\n"
    yield fenced(record.answer, "json") if record.answer else "No notice was accepted."
    if record.gates:
        yield "\n### Gates\n"
        yield from _facts(*map(gate_line, record.gates))
    for failure in record.failures:
        yield f"\n### Red: {inline(failure.gate)}\n"
        yield from _facts(*failure_lines(failure))
        yield fenced(failure.error)


def record_name(trace: Trace, record: Record) -> str:
    """Stage, agent and attempt; a run of a fix with the fix's number."""
    whose = "" if record.number == trace.view.number else f"{record.number}: "
    run = record.run
    return f"{whose}{run.stage} ({run.agent}), attempt {run.attempt}"


def gate_line(gate: GateView) -> tuple[str, str]:
    """A gate and what it said, on which commit."""
    clean = {True: ", clean", False: ", incremental", None: ""}[gate.clean]
    return gate.gate, f"{gate.verdict} on {gate.commit or 'no commit'}{clean}"


def failure_lines(failure: FailureView) -> Iterator[tuple[str, str]]:
    """What failed, whose it is, and whether it is repaired."""
    yield "Kind", str(failure.kind)
    yield "Owners", ", ".join(failure.owners) or "nobody"
    yield "Reported", f"in round {failure.round}, {output.moment(failure.created_at)}"
    yield "Resolved", output.moment(failure.resolved_at) if failure.resolved_at else "no"


def question_lines(question: EscalationView) -> Iterator[tuple[str, str]]:
    """What a human was asked, and the answer."""
    for ask in question.asks:
        yield f"Asked about {ask.gate}", ask.reason
    yield "Asked at", output.moment(question.created_at)
    if question.answered_at:
        yield (
            "Answer",
            f"{question.answer} by {question.who}, {output.moment(question.answered_at)}",
        )
        yield "Note", question.note
    else:
        yield "Answer", "none yet"


def note_line(note: NoteView) -> tuple[str, str]:
    """Who set which stages going again, and why."""
    why = f": {output.first_line(note.why)}" if note.why else ""
    return f"{note.kind} by {note.who}, {output.moment(note.at)}", ", ".join(note.stages) + why


def _facts(*lines: tuple[str, str]) -> Iterator[str]:
    return (f"- **{inline(name)}**: {inline(value)}" for name, value in lines if value)


def inline(text: str) -> str:
    """Text on one line, in which nothing is markup."""
    return _MARKS.sub(r"\\\1", " ".join(output.plain(text).split()))


def fenced(text: str, language: str = "text") -> str:
    """Text in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{output.plain(text.rstrip(chr(10)))}\n{fence}"
