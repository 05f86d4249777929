"""How the doctor's report looks to people."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cli import output
from cli.checks import Check
from cli.incidents_view import incident_text, place_name
from cli.sasha_report import Advice, SashaReport
from pipeline.model import CaseStanding


def checks_part(checks: Sequence[Check]) -> RenderableType:
    """A line for each check, and below what to do about those that are not ok."""
    rows = output.table("", "check", "ms", "", numbers=("ms",), fold=("",))
    for check in checks:
        rows.add_row(_mark(check), check.name, _latency(check), _said(check))
    advice = [output.unfolded(Text(_advice(check))) for check in checks if check.advice]
    return Group(rows, *advice)


def sasha_part(report: SashaReport) -> RenderableType:
    """What she does, what stands for the unrepaired, what she would do, what she has done."""
    said = (*_standing(report), *_opened(report), *_advised(report), *_history(report))
    return Group(*(output.unfolded(Text(line)) for line in said), *_incidents(report))


def _mark(check: Check) -> Text:
    return Text("ok", style="green") if check.ok else Text("NOT OK", style="bold red")


def _advice(check: Check) -> str:
    """An error mostly names what it is about."""
    said = output.plain(check.advice)
    return said if said.startswith(check.name) else f"{check.name}: {said}"


def _latency(check: Check) -> str:
    return "" if check.latency_ms is None else f"{check.latency_ms:.0f}"


def _said(check: Check) -> str:
    """Version, what was seen, and where: all of it may fold on a narrow terminal."""
    return output.plain(
        ", ".join(filter(None, (check.version, check.detail.rstrip("."), check.address)))
    )


def _standing(report: SashaReport) -> Iterator[str]:
    if report.is_there is False:
        yield "Sasha was not called so far."
    if report.standing is None:
        return
    cases = report.standing.cases
    yield "Sasha treats now:" if cases else "Sasha is there and treats nothing now."
    for case in cases:
        yield from _case_lines(case)
    for waiting in report.standing.waiting:
        yield f"Who waits for {waiting.dependency}: {', '.join(waiting.callers)}"


def _case_lines(case: CaseStanding) -> Iterator[str]:
    symptom, since = case.symptom, output.moment(case.began_at)
    yield f"  {place_name(case.place)}: {_what(symptom.kind, symptom.subject)} since {since}"
    yield f"      {output.plain(symptom.detail)}"
    for action in case.actions:
        yield f"      - {output.plain(output.first_line(action))}"


def _opened(report: SashaReport) -> Iterator[str]:
    for each in report.requirements:
        command = f"python starter.py status {each.number}"
        yield f"{each.number} is {each.state} since {output.moment(each.created_at)}: {command}"


def _advised(report: SashaReport) -> Iterator[str]:
    if report.would_do:
        yield "What she finds now, and would do:"
    elif not report.unknown:
        yield "She finds nothing to do."
    for advice in report.would_do:
        yield f"  {place_name(advice.place)}: {_what(advice.kind, advice.subject)}"
        for line in (advice.diagnosis, advice.detail, f"-> {advice.action} {_bound(advice)}"):
            yield f"      {output.plain(line)}"


def _bound(advice: Advice) -> str:
    times = "once" if advice.attempts == 1 else f"{advice.attempts} times at most"
    return f"({times}{', then a P0 asks a human' if advice.escalates else ''})"


def _history(report: SashaReport) -> Iterator[str]:
    for sentence in report.unknown:
        yield f"Not known: {output.plain(sentence)}"
    if report.incidents:
        yield "Latest incidents (all: python starter.py incidents):"


def _incidents(report: SashaReport) -> Iterator[Text]:
    return map(incident_text, report.incidents)


def _what(kind: str, subject: str) -> str:
    return output.plain(f"{kind} {subject}".rstrip())
