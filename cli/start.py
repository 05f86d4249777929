"""`start`: check everything, write the rows, start the workflows; all of a backlog or nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from adapters.git.project import check_project
from adapters.sdlc.requirements import Acceptance
from adapters.temporal.client import known_search_attributes, reaching_temporal
from adapters.temporal.workflows import workflow_status
from adapters.user_files import find_agents, read_text
from cli import output
from cli.again import copy_of
from cli.connections import Services, notify_paused, services
from cli.estimates import Durations
from cli.hints import agents_warnings
from cli.inputs import (
    BUDGET_HELP,
    PIPELINE_HELP,
    PRIORITY,
    TARGET_HELP,
    Submission,
    check_submission,
    find_pipeline,
    identify_project,
    number_and_title,
    read_backlog,
    read_numbers,
    read_requirement,
    say_other_project,
)
from cli.running import OK, ExitCode, load_settings, run
from cli.watch import detach, watch_all
from pipeline.agents_file import AgentsFile, check_plan
from pipeline.errors import AlreadyStarted, NumberElsewhere, ProjectRefused, RefusedInput
from pipeline.model import (
    Closing,
    Expected,
    Mode,
    Pipeline,
    Priority,
    ProjectId,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    Undo,
)
from settings import Settings
from workflows.starting import start_requirement

T = TypeVar("T")

EXAMPLES = {
    "start": """
Examples:

  python starter.py start REQ-101 --title "Greet in French" --wait

  python starter.py start REQ-102 --file task.md --pipeline critical-path

  python starter.py start --batch backlog.jsonl

  python starter.py start REQ-105 --title "Hotfix" --target release/2

  python starter.py start REQ-103 --title "In Danish" --blocked-by REQ-101

  python starter.py start REQ-104 --title "Down" --priority P0 --preempt

  python starter.py start --again REQ-101

The number may stand in the file instead: # REQ-102: Greet in German

A line of a backlog: {"req": "REQ-103", "title": "In Danish", "priority": "P3"}
"""
}

_AT_ONCE = 20
"""Calls in flight: a backlog of hundreds starts in seconds and does not flood the server."""


def start(
    req: Annotated[str | None, typer.Argument(help="Its number, used once: REQ-…")] = None,
    title: Annotated[str | None, typer.Option("--title", help="One line.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="The whole text.")
    ] = None,
    priority: Annotated[
        Priority | None,
        typer.Option("--priority", help=f"P0 (catastrophic) to P4; default: {PRIORITY}."),
    ] = None,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help=PIPELINE_HELP)] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One stage after another.")
    ] = False,
    blocked_by: Annotated[
        str | None,
        typer.Option("--blocked-by", help="Wait for these and build on their result: REQ-1,REQ-2."),
    ] = None,
    preempt: Annotated[
        bool,
        typer.Option("--preempt", help="A P0: suspend running agents until it has ended."),
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Markdown: first heading and what follows.")
    ] = None,
    batch: Annotated[
        Path | None, typer.Option("--batch", help="JSON lines: all are started or none.")
    ] = None,
    again: Annotated[
        str | None,
        typer.Option("--again", help="Copy one that has ended: text, plan, priority and target."),
    ] = None,
    budget: Annotated[float | None, typer.Option("--budget", help=BUDGET_HELP)] = None,
    target: Annotated[str | None, typer.Option("--target", help=TARGET_HELP)] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow to the end; the exit code tells how it ended.")
    ] = False,
    attach: Annotated[bool, typer.Option("--attach", help="Join what was started before.")] = False,
    is_rehearsed: Annotated[bool, typer.Option("--rehearsed", hidden=True)] = False,
) -> None:
    """Start a requirement, or a whole backlog."""
    settings = load_settings()
    intake = Intake(find_agents(settings.agents_file), settings.pipeline)
    if batch is not None:
        texts = (req, title, description, file, blocked_by, budget, target, again)
        is_default = priority is None and pipeline is None
        if any(text is not None for text in texts) or preempt or sequential or not is_default:
            raise RefusedInput(
                "--batch stands alone: its lines hold numbers, titles and everything else."
            )
        read_backlog(read_text(batch, "Backlog"), str(batch), intake.take)
    else:
        plan = None
        if again is not None:
            if title is not None or description is not None or file is not None:
                raise RefusedInput(
                    f"--again copies the text of {again}: leave out --title, --description, --file."
                )
            copied = run(copy_of(settings, again, req))
            plan = None if pipeline else copied.plan
            number, heading, body = copied.number, copied.title, copied.description
            priority, target = priority or copied.priority, target or copied.target or None
            sequential = sequential or copied.sequential
            preempt = preempt or (copied.pre_empts and priority is Priority.P0)
        else:
            number, heading, body = _text_of(req, title, description, file)
        blockers = () if blocked_by is None else read_numbers(blocked_by)
        level, named = priority or PRIORITY, pipeline or ""
        intake.take(
            Submission(
                *(number, heading, body, level, named, sequential, blockers, preempt, budget),
                target=target_of(target),
            ),
            plan,
        )
    try:
        started = start_all(settings, intake, attach=attach, wait=wait, is_rehearsed=is_rehearsed)
        code = run(started)
    except KeyboardInterrupt:
        code = detach(intake.numbers) if wait else ExitCode.INTERRUPTED
    raise typer.Exit(code)


def _text_of(
    req: str | None, title: str | None, description: str | None, file: Path | None
) -> tuple[str, str, str]:
    """Number, title and description, from the options or from a file."""
    if req is None and file is None:
        raise RefusedInput(
            "A number is missing: give one like REQ-101, --file, --batch or --again."
        )
    body = description or ""
    if file is not None:
        if title is not None or description is not None:
            raise RefusedInput("--file holds title and description: leave out the other two.")
        title, body = read_requirement(read_text(file, "Requirement file"), str(file))
        req, title = number_and_title(req, title, str(file))
    if title is None:
        raise RefusedInput("A title is missing: give --title, --file or --batch.")
    if req is None:
        raise RefusedInput(
            "A number is missing: give one like REQ-101, or begin the file's heading with one"
            " (`# REQ-101: Title`)."
        )
    return req, title, body


@dataclass(frozen=True)
class Launch:
    """A submission with the plan that it named."""

    submission: Submission
    pipeline: Pipeline
    undo: Undo | None = None
    project: ProjectId | None = None
    """The repository that it is for; None if it needs none."""


class Intake:
    """Collects submissions and makes every check that needs no server.

    `usual` is the pipeline of a submission that names none.
    """

    def __init__(self, agents: AgentsFile, usual: str) -> None:
        self.agents = agents
        self._usual = usual
        self._pipelines: dict[str, Pipeline] = {}
        self.launches: list[Launch] = []

    def take(self, submission: Submission, plan: Pipeline | None = None) -> None:
        """Check a submission and add it; a `plan` is used in place of the one that it names.

        Raises: RefusedInput.
        """
        check_submission(submission)
        pipeline = plan or self._found(submission.pipeline or self._usual)
        check_plan(self.agents, pipeline)
        if submission.target and self.agents.is_simulated(pipeline):
            raise RefusedInput(
                f"{submission.number} cannot be delivered to {submission.target}: all agents and"
                " builds of its plan are simulated, so there is nothing to deliver."
            )
        self.launches.append(Launch(submission, pipeline))

    def _found(self, name: str) -> Pipeline:
        if name not in self._pipelines:
            self._pipelines[name] = find_pipeline(name)
        return self._pipelines[name]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of the submissions, in their order."""
        return tuple(launch.submission.number for launch in self.launches)

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """The plans of the submissions, each once."""
        return tuple({id(each.pipeline): each.pipeline for each in self.launches}.values())

    def bind(self, project: ProjectId | None) -> None:
        """Let the submissions that need a project be of that one."""
        self.launches = [
            each if self.agents.is_simulated(each.pipeline) else replace(each, project=project)
            for each in self.launches
        ]

    @property
    def targets(self) -> tuple[str, ...]:
        """The branches that the submissions deliver to, each once; empty for what is checked out.

        One whose agents and builds are all simulated needs no project, so it has no target.
        """
        real = (each for each in self.launches if not self.agents.is_simulated(each.pipeline))
        return tuple(dict.fromkeys(each.submission.target for each in real))


def target_of(said: str | None) -> str:
    """The branch that `--target` names. Raises: RefusedInput for an empty name."""
    if said is not None and not said.strip():
        raise RefusedInput("--target is empty: name the branch to deliver to, or leave it out.")
    return said or ""


async def check_needed_project(settings: Settings, intake: Intake) -> None:
    """Check the project if one is needed, and let the submissions be of it.

    Raises: ProjectRefused; OtherProject if the worker of this state directory has another one.
    """
    targets = intake.targets
    if targets:
        if settings.project_root is None:
            raise ProjectRefused(
                "PROJECT_ROOT is not set: agents or builds of this plan are programs and need the"
                " git repository that they work on. Run `python starter.py init` in it, or set"
                " PROJECT_ROOT to it."
            )
        for target in targets:
            await check_project(settings.project_root, settings.git_filters, target)
        intake.bind(await identify_project(settings))
        say_other_project(settings)


async def start_all(
    settings: Settings, intake: Intake, *, attach: bool, wait: bool, is_rehearsed: bool = False
) -> ExitCode:
    """Start all or none of them, and follow them with `wait`; how they ended."""
    await check_needed_project(settings, intake)
    for warning in agents_warnings(settings, intake.agents, intake.pipelines):
        output.say(f"Warning: {warning}")
    async with services(settings) as connected:
        started = await launch(
            connected,
            intake.launches,
            heartbeat=settings.heartbeat,
            attach=attach,
            agents=intake.agents,
        )
        for number in intake.numbers:
            output.say(f"{number}: {'accepted' if number in started else 'joined'}.")
        for pause in await connected.reader.pauses():
            if pause.is_of_all:
                output.say(f"It waits: {pause.reason}")
        if wait:
            numbers = intake.numbers
            return await watch_all(settings, connected.reader, numbers, is_rehearsed=is_rehearsed)
    for number in started:
        output.write(f"{number} {RequirementState.ACCEPTED}")
    return OK


async def launch(
    services: Services,
    launches: Sequence[Launch],
    *,
    heartbeat: timedelta,
    attach: bool,
    agents: AgentsFile | None = None,
) -> tuple[str, ...]:
    """Start all or none; returns the numbers that were started, without those joined.

    How long each is likely to take stands in its order, by what is known of such `agents`.

    If an earlier start wrote the row and got no further, this one completes it, with the row's
    input.

    Raises: AlreadyStarted, unless `attach` allows joining what was started before;
        NumberElsewhere, before any row is written.
    """
    started = await _started_before(services, [each.submission.number for each in launches])
    if started and not attach:
        raise AlreadyStarted(
            f"{', '.join(started)}: already started, and a number is used only once. Take another"
            " number, or follow that one with --attach; one that has ended is copied to a new"
            f" number by: python starter.py start --again {started[0]}"
        )
    attributes = await known_search_attributes(services.temporal)
    durations = Durations(agents)
    await durations.read(services.reader)
    expected = cache(partial(_expected, durations))
    fresh = [
        _acceptance(each, heartbeat, attributes, expected)
        for each in launches
        if each.submission.number not in started
    ]
    await services.store.accept_all(fresh)
    if any(acceptance.blocked_by for acceptance in fresh):
        await notify_paused(services)  # the blockers of a new P0 may continue
    numbers = [each.order.number for each in fresh]
    accepted = [await services.reader.accepted(number) for number in numbers]
    await _bounded([_start_workflow(services, *each) for each in accepted])
    return tuple(numbers)


async def _started_before(services: Services, numbers: Sequence[str]) -> tuple[str, ...]:
    ours = services.installation.queues.central
    known = await _bounded([workflow_status(services.temporal, number) for number in numbers])
    foreign = [n for n, each in zip(numbers, known, strict=True) if each and each.queue != ours]
    if foreign:
        raise NumberElsewhere(*foreign)
    states = await services.reader.states(numbers)
    return tuple(
        number
        for number, is_known in zip(numbers, known, strict=True)
        if is_known or states.get(number, RequirementState.ACCEPTED) != RequirementState.ACCEPTED
    )


def _expected(durations: Durations, pipeline: Pipeline, mode: Mode) -> Expected:
    return durations.of_plan(pipeline, mode).expected


def _acceptance(
    launch: Launch,
    heartbeat: timedelta,
    attributes: tuple[str, ...],
    expected: Callable[[Pipeline, Mode], Expected],
) -> Acceptance:
    submission = launch.submission
    mode = Mode.SEQUENTIAL if submission.sequential else Mode.PARALLEL
    order = RequirementOrder(
        number=submission.number,
        title=submission.title,
        priority=submission.priority,
        pipeline=_with_budget(launch.pipeline, submission.budget),
        sequential=submission.sequential,
        pre_empts=submission.preempt,
        heartbeat=heartbeat,
        search_attributes=attributes,
        target=submission.target,
        undo=launch.undo,
        expected=None if launch.undo else expected(launch.pipeline, mode),
        project=launch.project,
    )
    return Acceptance(order, submission.description, blocked_by=submission.blocked_by)


def _with_budget(pipeline: Pipeline, usd: float | None) -> Pipeline:
    """The plan with a budget in place of its own, which warns at its usual share."""
    if usd is None:
        return pipeline
    return replace(pipeline, bounds=replace(pipeline.bounds, usd=usd, warn_usd=None))


async def _start_workflow(services: Services, order: RequirementOrder, description: str) -> None:
    client = services.temporal
    try:
        with reaching_temporal(client):
            await start_requirement(client, services.installation.queues, order, description)
    except NumberElsewhere as refusal:  # another installation took the number after our check
        ref = RequirementRef(order.number, "")
        await services.store.close_requirement(
            Closing(ref, RequirementState.FAILED, str(refusal), "")
        )
        raise


async def _bounded(calls: Sequence[Awaitable[T]]) -> list[T]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def call(awaitable: Awaitable[T]) -> T:
        async with slots:
            return await awaitable

    return await asyncio.gather(*map(call, calls))
