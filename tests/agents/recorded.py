"""The recorded streams of real programs, as a run directory would hold them."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import ProcessEnd
from adapters.agent_programs.stream import read_report
from pipeline.model import ProgramReport, RunEnd, RunResult

RECORDINGS = Path(__file__).parent / "recordings"


def place(name: str) -> Path:
    """Where the scenario of that name is recorded."""
    return RECORDINGS / f"{name.replace(' ', '-')}.json"


def recorded(name: str) -> dict[str, Any]:
    """The recording of a scenario."""
    document: dict[str, Any] = json.loads(place(name).read_text(encoding="utf-8"))
    return document


def report_of(name: str, folder: Path) -> ProgramReport:
    """What the program's adapter makes of its recorded stream."""
    recording = recorded(name)
    output = folder / "stdout"
    output.write_text("".join(f"{line}\n" for line in recording["output"]), encoding="utf-8")
    process = ProcessEnd(
        account="work",
        session=recording["session"],
        end=RunEnd(recording["end"]),
        exit_code=recording["exit_code"],
        errors=recording["errors"],
        ended_at=datetime.fromisoformat(recording["ended_at"]),
    )
    return read_report(PROGRAMS[kind_of(name)], output, process)


def result_of(name: str, folder: Path) -> RunResult:
    """The run of a recorded scenario, as its host would tell of it."""
    recording = recorded(name)
    ended_at = datetime.fromisoformat(recording["ended_at"])
    return RunResult(
        end=RunEnd(recording["end"]),
        exit_code=recording["exit_code"],
        output="",
        error_output=recording["errors"],
        started_at=ended_at,
        ended_at=ended_at,
        starts=1,
        log_reference="runs/x/stdout",
        report=report_of(name, folder),
    )


def kind_of(name: str) -> str:
    """The kind of a scenario, which is its first word."""
    return name.partition(" ")[0]


def readable(name: str) -> Iterator[str]:
    """The recorded stream as a human is shown it."""
    for line in recorded(name)["output"]:
        if line.startswith("{"):
            yield from PROGRAMS[kind_of(name)].readable(json.loads(line))
