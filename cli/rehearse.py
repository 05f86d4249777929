"""`rehearse`: the real builds, with agents that cost nothing, on a clone that is thrown away."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer

from adapters.git.command import Git
from adapters.git.project import check_project
from adapters.local_stack import LocalStack
from adapters.user_files import find_agents
from cli import output
from cli.demo import DEFAULTS, beside, starter_command, variables_of, worker_in
from cli.inputs import find_pipeline, say_other_project
from cli.running import ENDS, OK, ExitCode, load_settings, run
from cli.up import running
from pipeline.agents_file import AgentsFile, BuildCommand, check_plan
from pipeline.errors import ProjectRefused, RefusedInput
from pipeline.model import Pipeline
from pipeline.project_proposal import toml_value
from pipeline.team import TEAM
from settings import HERE, Settings

EXAMPLES = {
    "rehearse": """
Examples:

  python starter.py rehearse

  AGOG_PIPELINE=one-sided python starter.py rehearse
"""
}

NUMBER = "REQ-REHEARSAL"
_AGENT = HERE / "demo" / "rehearsal_agent.py"
_OTHER_SERVERS = ("TEMPORAL_",)
"""How variables of Temporal's own library begin: they may lead to another server."""


def rehearse() -> None:
    """Try the agents file's builds before the first paid run.

    Scripted agents work on a clone of the project that is thrown away, on servers of its own; its
    builds are prepared, made and delivered as they will be. Your repository is only read.
    """
    raise typer.Exit(rehearsal(load_settings()))


def rehearsal(settings: Settings) -> ExitCode:
    """Rehearse with these settings, and say how it ended. Its directory is kept if it was red."""
    agents, pipeline = find_agents(settings.agents_file), find_pipeline(settings.pipeline)
    check_plan(agents, pipeline)
    if not any(isinstance(agents.builds[build], BuildCommand) for build in pipeline.builds):
        raise RefusedInput(f"Pipeline {pipeline.name} has no build that is a program.")
    place = Path(tempfile.mkdtemp(prefix="agog-rehearsal-"))
    code = ExitCode.INTERRUPTED
    try:
        code = run(_rehearse(settings, agents, pipeline, place))
    except KeyboardInterrupt:
        pass
    finally:
        if code is ExitCode.NEEDS_HUMAN:
            output.say(f"Logs of the builds: {place / 'state' / 'builds'}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    if code is OK:
        output.say("The rehearsal was delivered: prepare and builds work.")
    elif code is ExitCode.NEEDS_HUMAN:
        output.say(f"The rehearsal is red: mend {settings.agents_file}, then rehearse again.")
        return ExitCode.NOT_DELIVERED
    return code


async def _rehearse(
    settings: Settings, agents: AgentsFile, pipeline: Pipeline, place: Path
) -> ExitCode:
    if settings.project_root is None:
        raise ProjectRefused(
            "PROJECT_ROOT is not set: a rehearsal needs the project's builds. Run"
            " `python starter.py init` in its repository, or set PROJECT_ROOT to it."
        )
    root = settings.project_root.expanduser().absolute()
    await check_project(root, settings.git_filters)
    say_other_project(settings)
    project, state = place / "project", place / "state"
    await Git(place).run("clone", "--quiet", "--no-hardlinks", str(root), str(project))
    files = {"agents.toml": _agents_text(agents, pipeline), "plan.toml": rehearsal_plan(pipeline)}
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")
    output.say("Starting servers and a worker for the rehearsal …")
    # The usual ports are left to the user's own stack.
    async with running(LocalStack(state, usual_ports=False)) as addresses:
        own = {
            "AGOG_HOME": str(state),
            "AGOG_HOST": "rehearsal",
            "AGOG_HEALTH_PORT": "0",
            "AGOG_AGENTS_FILE": str(place / "agents.toml"),
            "PROJECT_ROOT": str(project),
        }
        inherited = {
            name: value
            for name, value in settings.children_environment.items()
            if not name.startswith(_OTHER_SERVERS)
        }
        environment = {**inherited, **DEFAULTS, **own, **variables_of(addresses)}
        async with worker_in(state, environment) as worker:
            plan = str(place / "plan.toml")
            options = (
                "--title",
                "Rehearse the builds",
                "--pipeline",
                plan,
                "--wait",
                "--rehearsed",
            )
            code = await beside(worker, starter_command(environment, "start", NUMBER, *options))
    return code if code in ENDS else ExitCode.NOT_DELIVERED


def _agents_text(agents: AgentsFile, pipeline: Pipeline) -> str:
    """Scripted agents, with the builds as they are in the real file."""
    lines = ["[defaults]", f"command = {toml_value((sys.executable, str(_AGENT)))}"]
    for name in pipeline.builds:
        lines += ["", f"[builds.{name}]", *_build_lines(agents, name)]
    return "\n".join(lines) + "\n"


def _build_lines(agents: AgentsFile, name: str) -> Iterator[str]:
    build = agents.builds[name]
    if not isinstance(build, BuildCommand):
        yield 'kind = "simulated"'
        return
    yield f"directory = {toml_value(build.directory)}"
    yield f"command = {toml_value(build.command)}"
    if build.prepare:
        yield f"prepare = {toml_value(build.prepare)}"
    yield f"timeout_seconds = {build.timeout.total_seconds():g}"
    yield f"environment = {toml_value(build.environment)}"


def rehearsal_plan(pipeline: Pipeline) -> str:
    """The stages that build something, and nobody who repairs: the first red ends it."""
    lines = ['name = "rehearsal"', "[bounds]", "reds = 1", "[[groups]]", 'name = "Rehearsal"']
    added: dict[str, list[str]] = {}
    for build, agent in {build: s.agent for s in pipeline.stages for build in s.builds}.items():
        if agent not in TEAM:
            added.setdefault(agent, []).append(build)
    for agent, builds in added.items():  # whatever its role is: it has something to build
        lines += ["[[agents]]", f"name = {toml_value(agent)}", 'role = "implementation"']
        lines += ['side = "rehearsal"', f"builds = {toml_value(tuple(builds))}"]
    for stage in pipeline.stages:
        if stage.builds:
            lines += ["[[stages]]", f"name = {toml_value(stage.name)}", 'group = "Rehearsal"']
            lines += [f"agent = {toml_value(stage.agent)}", "minutes = 60"]
            lines.append(f"builds = {toml_value(stage.builds)}")
    return "\n".join(lines) + "\n"
