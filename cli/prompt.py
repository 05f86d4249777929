"""`prompt`: what a stage's agent was told, or what it would be told if it started now."""

from dataclasses import dataclass
from typing import Annotated

import typer

from adapters.agent_programs import PROGRAMS
from adapters.git import GitWorkspaces
from adapters.runs import records as run_files
from adapters.runs.directory import RunDirectory
from adapters.runs.prompts import HostPrompts, read_templates
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView, RunView
from adapters.user_files import find_agents
from cli import output
from cli.connections import records
from cli.inputs import stage_name
from cli.running import AsJson, Number, StageName, load_settings, run
from pipeline.agent_programs import ProgramAgent
from pipeline.errors import RefusedInput, UnknownRequirement
from pipeline.graph import ancestors
from pipeline.model import Head, Pipeline, RequirementRef, StageRequest
from pipeline.team import Role
from settings import PROMPTS, Settings

EXAMPLES = {
    "prompt": """
Examples:

  python starter.py prompt REQ-101 roy

  python starter.py prompt REQ-101 "Backend QA" --attempt 1

  python starter.py prompt REQ-101 roy --now
"""
}

_NOT_TAKEN = "not-started"
"""Stands for the workflow's run in the paths of a requirement that no host has taken yet."""


def prompt(
    req: Number,
    stage: StageName,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="What it was told then.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="What its next attempt would be told now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a stage's agent was told.

    Of a stage that did not run: what its agent would be told now.
    """
    if now and attempt is not None:
        raise RefusedInput("Give --attempt for what was told, or --now; not both.")
    shown = run(_shown(load_settings(), req, stage, attempt, now=now))
    if as_json:
        fields = {"stage": shown.stage, "agent": shown.agent, "attempt": shown.attempt}
        was_told = {"was_told": shown.was_told}
        return output.write_json({"req_number": req, **fields, **was_told, "prompt": shown.text})
    when = "was told" if shown.was_told else "would be told now, before it starts"
    output.say(f"What {shown.agent} {when} ({shown.stage}, attempt {shown.attempt}):")
    return output.write(output.plain(shown.text.removesuffix("\n")))


@dataclass(frozen=True)
class _Shown:
    """A prompt, and whether an agent has got it."""

    stage: str
    agent: str
    attempt: int
    text: str
    was_told: bool


async def _shown(
    settings: Settings, number: str, said: str, attempt: int | None, *, now: bool
) -> _Shown:
    async with records(settings) as reader:
        view = await reader.requirement(number)
        name = stage_name(view, said)
        runs = [each for each in await reader.runs(number) if each.stage == name]
        found = next((each for each in reversed(runs) if attempt in (None, each.attempt)), None)
        if attempt is not None and found is None:
            raise UnknownRequirement(f"{name} of {number} has no attempt {attempt}.")
        if found and not now and (text := told_prompt(settings, found)) is not None:
            return _Shown(found.stage, found.agent, found.attempt, text, was_told=True)
        if attempt is not None:
            raise UnknownRequirement(f"{name}, attempt {attempt}, has not started.")
        return await _would_be_told(settings, reader, view, name)


def told_prompt(settings: Settings, found: RunView) -> str | None:
    """What the run's agent was told; None if it has not started yet.

    Raises: UnknownRequirement if that is not known here, or not any more.
    """
    name = f"{found.stage}, attempt {found.attempt},"
    if found.host not in (None, settings.host):
        raise UnknownRequirement(
            f"{name} ran on host {found.host}, where its prompt is; this is {settings.host}."
        )
    file = RunDirectory.of(settings.home, found.run_id).file(run_files.PROMPT)
    if file.exists():
        return file.read_text(encoding="utf-8", errors="replace")
    if found.started_at is None:
        return None
    raise UnknownRequirement(
        f"The prompt of {name} is gone: {file} no longer exists. Runs are removed some time after "
        "their requirement has ended."
    )


async def _would_be_told(
    settings: Settings, reader: SdlcReader, view: RequirementView, name: str
) -> _Shown:
    if view.host not in (None, settings.host):
        raise UnknownRequirement(
            f"{view.number} is on host {view.host}, where its documents are; this is "
            f"{settings.host}. Ask there."
        )
    agents, root = find_agents(settings.agents_file), settings.project_root
    workspaces = GitWorkspaces(root, settings.home, settings.git_filters) if root else None
    if view.base_commit and workspaces is None:
        raise RefusedInput(f"{view.number} works on a project: set PROJECT_ROOT as for its worker.")
    head = await workspaces.head(view.number) if workspaces and view.base_commit else None
    request = _request(view, (await reader.order(view.number)).pipeline, name, head)
    context = await reader.context(request)
    environment = settings.children_environment
    templates = read_templates(PROMPTS)
    host = HostPrompts(
        templates, lambda: agents, settings.home, settings.host, workspaces, environment
    )
    told = await host.preview(request, context)
    agent = agents.agent(request.stage.agent)
    by_schema = isinstance(agent, ProgramAgent) and PROGRAMS[agent.kind].takes_schema
    text = told.by_schema if by_schema else told.text
    return _Shown(name, request.stage.agent, request.attempt, text, was_told=False)


def _request(
    view: RequirementView, pipeline: Pipeline, name: str, head: Head | None
) -> StageRequest:
    """What the stage's next attempt would be asked for now."""
    row = next(each for each in view.stages if each.stage == name)
    before = ancestors(pipeline, name)
    measured = (s.name for s in pipeline.stages if s.member.role == Role.STATISTICS)
    return StageRequest(
        ref=RequirementRef(view.number, view.workflow_run or _NOT_TAKEN),
        priority=view.priority,
        stage=pipeline.stage(name),
        attempt=row.attempt + 1,
        head=head,
        remaining_minutes=0.0,
        staging_only=any(each not in before for each in measured),
    )
