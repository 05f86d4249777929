"""`logs`: what an agent printed, read from its run directory, so also without a worker.

The stream of a program whose kind is known is shown as its text, tools, results and retries.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import AgentProgram
from adapters.agent_programs.stream import event_of
from adapters.runs import records as run_files
from adapters.runs.directory import RunDirectory, following_records
from adapters.sdlc.views import RunView
from cli import output
from cli.connections import records
from cli.inputs import stage_name
from cli.running import Number, StageName, load_settings, run
from pipeline.errors import UnknownRequirement
from settings import Settings

EXAMPLES = {
    "logs": """
Examples:

  python starter.py logs REQ-101 "Backend Implementation" --follow

  python starter.py logs REQ-101 roy --attempt 1 --stderr

  python starter.py logs REQ-101 roy --raw
"""
}

_CHUNK_BYTES = 64 * 1024
_POLL_SECONDS = 0.2


def logs(
    req: Number,
    stage: StageName,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Continue until the run ends.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Default: the latest.")
    ] = None,
    stderr: Annotated[bool, typer.Option("--stderr", help="Its standard error instead.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The stream as the agent's program printed it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print what a stage's agent has printed."""
    settings = load_settings()
    found = run(_run(settings, req, stage, attempt))
    path = _log_path(settings.home, found, run_files.STDERR if stderr else run_files.STDOUT)
    may_still_print = found.ended_at is None and found.host in (None, settings.host)
    if not path.exists() and not (follow and may_still_print):
        raise UnknownRequirement(_why_nothing(path, found, settings.host))
    log = Log(path)
    for each in log.parts(follow=follow):
        lines = each.lines if raw or stderr else each.readable
        for line in lines(follow=follow):
            _print(line, found, as_json=as_json)


def _log_path(home: Path, found: RunView, stream: str) -> Path:
    """The file of the run's stream. The row names it only after the run has ended."""
    if found.log_reference:
        return Path(found.log_reference).with_name(stream)
    return RunDirectory.of(home, found.run_id).file(stream)


def _why_nothing(path: Path, found: RunView, host: str) -> str:
    """Why there is no such file, as far as this host can tell."""
    run_name = f"{found.stage}, attempt {found.attempt},"
    if found.host not in (None, host):
        return f"{run_name} ran on host {found.host}, where its log is; this is {host}."
    if path.parent.exists():
        return f"{run_name} has printed nothing: {path} does not exist. Simulated agents never do."
    if found.started_at is None:
        return f"{run_name} has not started."
    return f"{run_name} was removed after it had ended: {path} no longer exists."


async def _run(settings: Settings, number: str, stage: str, attempt: int | None) -> RunView:
    async with records(settings) as reader:
        name = stage_name(await reader.requirement(number), stage)
        runs = [one for one in await reader.runs(number) if one.stage == name]
    for found in reversed(runs):
        if attempt in (None, found.attempt):
            return found
    which = f"attempt {attempt}" if attempt else "attempt yet"
    raise UnknownRequirement(f"{name} of {number} has no {which}.")


class Log:
    """What a run has printed so far, and goes on to print."""

    def __init__(self, path: Path) -> None:
        """Take the file of one of its streams."""
        self._path = path

    def parts(self, *, follow: bool) -> Iterator["Log"]:
        """This log, then those of the parts in which its program's session has gone on.

        With `follow` also later ones, as long as its session is to be resumed.
        """
        log = self
        while True:
            yield log
            folder, name = log._path.parent, log._path.name
            log = Log(following_records(folder) / name)
            while not log._path.exists():
                if not (follow and (folder / run_files.RESUMES).exists()):
                    return
                time.sleep(_POLL_SECONDS)

    def readable(self, *, follow: bool) -> Iterator[bytes]:
        """The lines, those of a known program's stream in a form for humans."""
        program = None
        for line in self.lines(follow=follow):
            program = program or self._program()  # a run that is followed may not be ordered yet
            event = event_of(line) if program else None
            if program is None or event is None:
                yield line
                continue
            for text in program.readable(event):
                yield output.plain(text).encode(errors="replace")

    def lines(self, *, follow: bool) -> Iterator[bytes]:
        """The lines; with `follow` also later ones, until the run has recorded its end."""
        while not self._path.exists():
            time.sleep(_POLL_SECONDS)
        with self._path.open("rb") as file:
            rest = b""
            while True:
                has_ended = self._path.with_name(run_files.EXIT).exists()
                while chunk := file.read(_CHUNK_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from lines
                if has_ended or not follow:
                    break
                time.sleep(_POLL_SECONDS)
        if rest:
            yield rest

    def _program(self) -> AgentProgram | None:
        """The kind of the run as it was ordered; None if its output is no known stream."""
        try:
            order = self._path.with_name(run_files.ORDER).read_text(encoding="utf-8")
            return PROGRAMS.get(json.loads(order)["kind"])
        except (OSError, ValueError, KeyError):
            return None


def _print(line: bytes, found: RunView, *, as_json: bool) -> None:
    text = line.decode(errors="replace")
    if as_json:
        output.write_json_line({"stage": found.stage, "attempt": found.attempt, "line": text})
    elif sys.stdout.isatty():
        output.write(output.plain(text))
    else:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
