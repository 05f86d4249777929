"""What a demonstration has brought: for people and as one document."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.panel import Panel

from adapters.sdlc_views import PerformanceView, RequirementView
from cli import output
from cli.gantt import bar
from cli.status_view import report
from pipeline.model import RequirementState
from pipeline.numbers import integration_branch


@dataclass(frozen=True)
class Demonstrated:
    """A requirement that has come to its end, or to a question."""

    view: RequirementView
    performance: PerformanceView
    web_ui: str
    project: Path
    shell: Mapping[str, str]

    @property
    def branch(self) -> str:
        """The branch that collects its merges; it stays."""
        return integration_branch(self.view.number)


def document(done: Demonstrated) -> Mapping[str, object]:
    """The JSON of a demonstration."""
    return {
        "req_number": done.view.number,
        "state": done.view.state,
        "pipeline": done.view.pipeline,
        "mode": done.view.mode,
        "sequential_seconds": done.performance.sequential_seconds,
        "parallel_seconds": done.performance.parallel_seconds,
        "percentage_saved": done.performance.percentage_saved,
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
        "web_ui": done.web_ui,
        "project": str(done.project),
        "branch": done.branch,
    }


def show(done: Demonstrated) -> None:
    """Who worked when, commits, failures, and what working side by side saved."""
    console = output.data()
    _show_intervals(done)
    console.print(f"Commits of {done.branch}:")
    output.write(_commits(done))
    if done.view.failures:
        console.print(report(done.view))
    console.print(Panel(_figures(done), expand=False))


def _figures(done: Demonstrated) -> str:
    figures, view = done.performance, done.view
    is_delivered = view.state is RequirementState.DELIVERED
    delivered = f", delivered to {view.target_branch}" if is_delivered else ", kept"
    return (
        f"{view.number} is {view.state}\n"
        f"{figures.parallel_seconds:.1f} s of work instead of {figures.sequential_seconds:.1f} s:"
        f" {figures.percentage_saved}% saved\n"
        f"Branch {done.branch}{delivered}\n"
        f"Web UI {done.web_ui}"
    )


def _show_intervals(done: Demonstrated) -> None:
    spans = {
        stage: (stage.started_at.timestamp(), stage.ended_at.timestamp())
        for stage in done.view.stages
        if stage.started_at and stage.ended_at
    }
    begin = min((start for start, _ in spans.values()), default=0.0)
    total = max((end for _, end in spans.values()), default=0.0) - begin
    rows = output.table("who worked when", "", "seconds", numbers=("seconds",))
    for stage, (start, end) in spans.items():
        line = bar(start - begin, end - begin, total)
        rows.add_row(f"{stage.stage} ({stage.agent})", line, f"{end - start:.2f}")
    output.data().print(rows)


def _commits(done: Demonstrated) -> str:
    log = subprocess.run(
        ("git", "log", "--oneline", "--graph", "--no-color", done.branch),
        cwd=done.project,
        env=done.shell,
        capture_output=True,
        text=True,
        check=True,
    )
    return output.plain(log.stdout.rstrip())
