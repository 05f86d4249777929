"""The result of a demo: as text and as a JSON document."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import FailureView, NoteView, PerformanceView, RequirementView, RunView
from cli import output
from cli.status import failure_text, fix_document, fixes_part, report
from pipeline.model import REWORK, RequirementState
from pipeline.numbers import integration_branch


@dataclass(frozen=True)
class Records:
    """The rows of a requirement and of its fixes, with all failures and runs."""

    view: RequirementView
    performance: PerformanceView
    failures: tuple[FailureView, ...]
    notes: tuple[NoteView, ...]
    runs: tuple[RunView, ...]


async def read_records(reader: SdlcReader, number: str) -> Records:
    """Read them after the requirement has ended, or a human is asked."""
    view = await reader.requirement(number)
    numbers = (number, *(fix.number for fix in view.fixes))
    return Records(
        view,
        await reader.performance(number),
        await reader.failures(number),
        await reader.notes(number),
        tuple([run for each in numbers for run in await reader.runs(each)]),
    )


@dataclass(frozen=True)
class Demonstrated:
    """What a demo leaves to look at."""

    records: Records
    web_ui: str
    project: Path
    store: Path
    """Our own repository of the project."""
    shell: Mapping[str, str]

    @property
    def view(self) -> RequirementView:
        """The requirement, as `status` reads it."""
        return self.records.view

    @property
    def branch(self) -> str:
        """The integration branch, which is kept."""
        return integration_branch(self.view.number)


def document(done: Demonstrated) -> Mapping[str, object]:
    """The JSON of a demo."""
    performance = done.records.performance
    return {
        "req_number": done.view.number,
        "state": done.view.state,
        "pipeline": done.view.pipeline,
        "mode": done.view.mode,
        "sequential_seconds": performance.sequential_seconds,
        "parallel_seconds": performance.parallel_seconds,
        "percentage_saved": performance.percentage_saved,
        "stages": [
            {
                "stage": stage.stage,
                "agent": stage.agent,
                "state": stage.state,
                "started_at": stage.started_at,
                "ended_at": stage.ended_at,
            }
            for stage in done.view.stages
        ],
        "fixes": [fix_document(fix) for fix in done.view.fixes],
        "web_ui": done.web_ui,
        "project": str(done.project),
        "branch": done.branch,
        "store": str(done.store),
    }


def show(done: Demonstrated) -> None:
    """Print who worked when, the commits, failures and fixes, and what parallel work saved."""
    console = output.data()
    console.print(_intervals(done))
    output.write(_commits(done))
    if done.records.failures:
        console.print(Group(*_repairs(done)), crop=False)
    console.print(Panel(_figures(done), expand=False))


def _repairs(done: Demonstrated) -> Iterator[RenderableType]:
    """All failures, and what repaired them."""
    yield "\nWhat was red:"
    yield from (failure_text(failure) for failure in done.records.failures)
    yield from (
        f"{', '.join(note.stages[:2])} again: {output.plain(output.first_line(note.why))}"
        for note in done.records.notes
        if note.kind == REWORK
    )
    if done.view.fixes:
        yield fixes_part(done.view.fixes)
    if done.view.waiting_for:
        yield report(done.view)


def _figures(done: Demonstrated) -> str:
    figures, view = done.records.performance, done.view
    is_delivered = view.state is RequirementState.DELIVERED
    branch = f"Delivered to {view.target_branch}"
    if not is_delivered:
        branch = f"Branch {done.branch} is kept in {done.store}"
    return (
        f"{view.number} is {view.state}\n"
        f"{figures.parallel_seconds:.1f} s of work instead of {figures.sequential_seconds:.1f} s:"
        f" {figures.percentage_saved}% saved\n"
        f"{branch}"
    )


def _intervals(done: Demonstrated) -> Table:
    spans = sorted(
        (run.started_at.timestamp(), run.ended_at.timestamp(), _worker(run))
        for run in done.records.runs
        if run.started_at and run.ended_at
    )
    begin = min((start for start, _, _ in spans), default=0.0)
    total = max((end for _, end, _ in spans), default=0.0) - begin
    who = "who worked when"
    rows = output.table(who, "", "seconds", numbers=("seconds",), fold=(who,))
    for start, end, worker in spans:
        line = output.bar(start - begin, end - begin, total)
        rows.add_row(worker, line, f"{end - start:.2f}")
    return rows


def _worker(run: RunView) -> str:
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return f"{run.stage} ({run.agent}{attempt})"


def _commits(done: Demonstrated) -> str:
    is_delivered = done.view.state is RequirementState.DELIVERED
    branch = done.view.target_branch if is_delivered else done.branch
    place = done.project if is_delivered else done.store
    log = subprocess.run(
        ("git", "log", "--oneline", "--graph", "--no-color", str(branch)),
        cwd=place,
        env=done.shell,
        capture_output=True,
        text=True,
        check=True,
    )
    return f"Commits of {branch}:\n{output.plain(log.stdout.rstrip())}"
