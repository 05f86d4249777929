"""`start`: check everything, write the row, start the workflow."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.git.project import check_project
from adapters.user_files import find_agents, read_text
from cli import output
from cli.connections import services
from cli.inputs import (
    DEFAULT_PIPELINE,
    PRIORITY,
    Submission,
    check_submission,
    find_pipeline,
    number_and_title,
    read_backlog,
    read_numbers,
    read_requirement,
)
from cli.launching import Launch, launch
from cli.running import OK, ExitCode, load_settings, run
from cli.watching import detach, watch_all
from pipeline.agents_file import AgentsFile, check_plan
from pipeline.errors import ProjectRefused, RefusedInput
from pipeline.model import Pipeline, Priority, RequirementState
from settings import Settings

EXAMPLES = {
    "start": """
Examples:

  python starter.py start REQ-101 --title "Greet in French" --wait

  python starter.py start REQ-102 --file task.md --pipeline critical-path

  python starter.py start --batch backlog.jsonl

  python starter.py start REQ-103 --title "In Danish" --blocked-by REQ-101

  python starter.py start REQ-104 --title "Down" --priority P0 --preempt

The number may stand in the file instead: # REQ-102: Greet in German

A line of a backlog: {"req": "REQ-103", "title": "In Danish", "priority": "P3"}
"""
}


def start(
    req: Annotated[str | None, typer.Argument(help="Its number, used once: REQ-…")] = None,
    title: Annotated[str | None, typer.Option("--title", help="One line.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="The whole text.")
    ] = None,
    priority: Annotated[
        Priority, typer.Option("--priority", help="P0 (catastrophic) to P4.")
    ] = PRIORITY,
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="Name, or path of a .toml file.")
    ] = DEFAULT_PIPELINE,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One stage after another.")
    ] = False,
    blocked_by: Annotated[
        str | None,
        typer.Option("--blocked-by", help="Begin on what these have delivered: REQ-1,REQ-2."),
    ] = None,
    preempt: Annotated[
        bool,
        typer.Option("--preempt", help="A P0: what runs stands still until it has ended."),
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Markdown: first heading and what follows.")
    ] = None,
    batch: Annotated[
        Path | None, typer.Option("--batch", help="JSON lines: all are started or none.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow to the end; the exit code tells how it ended.")
    ] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Join what was started before.")] = False,
) -> None:
    """Start a requirement, or a whole backlog."""
    settings = load_settings()
    desk = Desk(find_agents(settings.agents_file))
    if batch is not None:
        _refuse_beside_batch(
            req is not None or title is not None or description is not None or file is not None,
            blocked_by is not None or preempt or sequential,
            priority is not PRIORITY or pipeline != DEFAULT_PIPELINE,
        )
        read_backlog(read_text(batch, "Backlog"), str(batch), desk.take)
    else:
        if req is None and file is None:
            raise RefusedInput("A number is missing: give one like REQ-101, --file or --batch.")
        heading, body = _text_of(title, description, file)
        if req is None:
            req, heading = number_and_title(heading)
        blockers = () if blocked_by is None else read_numbers(blocked_by)
        desk.take(Submission(req, heading, body, priority, pipeline, sequential, blockers, preempt))
    try:
        code = run(_start(settings, desk, attach=attach, wait=wait))
    except KeyboardInterrupt:
        code = detach(desk.numbers) if wait else ExitCode.INTERRUPTED
    raise typer.Exit(code)


class Desk:
    """Takes submissions in, each checked as far as that needs no server."""

    def __init__(self, agents: AgentsFile) -> None:
        self._agents = agents
        self._pipelines: dict[str, Pipeline] = {}
        self.launches: list[Launch] = []

    def take(self, submission: Submission) -> None:
        """Put a submission with the rest. Raises: RefusedInput."""
        check_submission(submission)
        self.launches.append(Launch(submission, self._pipeline(submission.pipeline)))

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of what was taken."""
        return tuple(launch.submission.number for launch in self.launches)

    @property
    def needs_project(self) -> bool:
        """Whether anything taken runs real processes."""
        return not all(map(self._agents.is_simulated, self._pipelines.values()))

    def _pipeline(self, name: str) -> Pipeline:
        if name not in self._pipelines:
            pipeline = find_pipeline(name)
            check_plan(self._agents, pipeline)
            self._pipelines[name] = pipeline
        return self._pipelines[name]


async def _start(settings: Settings, desk: Desk, *, attach: bool, wait: bool) -> ExitCode:
    if desk.needs_project:
        await _check_project(settings)
    async with services(settings) as connected:
        started = await launch(
            connected, desk.launches, heartbeat=settings.heartbeat, attach=attach
        )
        for number in desk.numbers:
            output.say(f"{number}: {'accepted' if number in started else 'joined'}.")
        if wait:
            return await watch_all(connected.reader, desk.numbers)
    for number in started:
        output.write(f"{number} {RequirementState.ACCEPTED}")
    return OK


async def _check_project(settings: Settings) -> None:
    if settings.project_root is None:
        raise ProjectRefused(
            "PROJECT_ROOT is not set: agents or builds of this plan are programs and need the git"
            " repository that they work on."
        )
    await check_project(settings.project_root, settings.git_filters)


def _refuse_beside_batch(*are_given: bool) -> None:
    if any(are_given):
        raise RefusedInput(
            "--batch stands alone: numbers, titles, texts and all else stand in its lines."
        )


def _text_of(title: str | None, description: str | None, file: Path | None) -> tuple[str, str]:
    """Title and description, from the options or from a file."""
    if file is None:
        if title is None:
            raise RefusedInput("A title is missing: give --title, --file or --batch.")
        return title, description or ""
    if title is not None or description is not None:
        raise RefusedInput("--file holds title and description: leave out the other two.")
    return read_requirement(read_text(file, "Requirement file"), str(file))
