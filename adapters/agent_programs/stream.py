"""A program's stream from its run directory: line by line, in bounded memory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from adapters.agent_programs.program import AgentProgram, Event, ProcessEnd
from pipeline.model import ProgramReport, RunEnd, Tokens

Usage = Mapping[str, Tokens]
"""Tokens by model."""

_FIRST_LINES = 64 * 1024
"""Bytes in which a stream names its session: its first lines do."""

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one line that is read; a longer one is skipped, as no end or answer is that long."""


_GOING_ON = ProcessEnd("", "", RunEnd.EXITED, None, "", None)


def read_report(program: AgentProgram, output: Path, process: ProcessEnd) -> ProgramReport:
    """What the program tells of its run, from all that it has printed."""
    stream = program.stream()
    for line in _lines(output):
        if event := event_of(line):
            stream.take(event)
    return stream.report(process)


def session_of(program: AgentProgram, output: Path) -> str:
    """The session that the first lines of a stream name; empty if they do not yet."""
    try:
        with output.open("rb") as file:
            lines = file.read(_FIRST_LINES).splitlines()
    except FileNotFoundError:
        return ""
    stream = program.stream()
    for event in filter(None, map(event_of, lines)):
        stream.take(event)
    return stream.report(_GOING_ON).session


def together(first: ProgramReport, again: ProgramReport) -> ProgramReport:
    """The report of a run whose session has gone on: its end, and what both parts cost."""
    both = _latest if again.counts_session else _added
    costs = [cost for cost in (first.cost_usd, again.cost_usd) if cost is not None]
    return replace(
        again,
        session=again.session or first.session,
        usage=both(first.usage, again.usage),
        unpriced=both(first.to_estimate, again.to_estimate),
        cost_usd=sum(costs) if costs else None,
        denials=(*first.denials, *again.denials),
        retries=first.retries + again.retries,
        has_worked=first.has_worked or again.has_worked,
    )


def _added(first: Usage, again: Usage) -> Usage:
    models = dict.fromkeys((*first, *again))
    return {each: first.get(each, Tokens()) + again.get(each, Tokens()) for each in models}


def _latest(first: Usage, again: Usage) -> Usage:
    return again or first


def event_of(line: bytes) -> Event | None:
    """The event that a line holds; None for a line that holds none."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LINE_LIMIT):
            if line.endswith(b"\n") or len(line) < LINE_LIMIT:
                yield line
            else:
                _skip_line(file)


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
        pass
