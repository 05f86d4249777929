"""`init`: look at a repository and at this host, propose agents and builds, write them."""

import asyncio
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values

from adapters.agent_programs import PROGRAMS, find_program
from adapters.builds import check_site
from adapters.files import PRIVATE_FILE, write_atomically
from adapters.git.command import Git
from adapters.git.project import list_project
from adapters.user_files import find_agents, read_text
from cli import output
from cli.inputs import find_pipeline, other_repository, repository_here
from cli.rehearse import rehearsal
from cli.running import OK, ExitCode, load_settings, run
from pipeline.agents_file import check_plan
from pipeline.errors import ProjectRefused, RefusedInput
from pipeline.project_proposal import Proposal, Remotes, propose
from pipeline.project_sides import SideFound, find_sides
from settings import HERE, Settings, environment_file

EXAMPLES = {
    "init": """
Examples:

  python starter.py init

  PROJECT_ROOT=~/shop python starter.py init --force

  python starter.py init --rehearse

  python starter.py init --json
"""
}

_SITE_CHECK = shlex.join((sys.executable, check_site.__file__))


def init(
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the proposal as one JSON document; write nothing.")
    ] = False,
    with_rehearsal: Annotated[
        bool, typer.Option("--rehearse", help="Then try the builds: see `rehearse`.")
    ] = False,
) -> None:
    """Find agents and builds for a repository; write agents.toml.

    The repository is PROJECT_ROOT of the environment, else the one that you are in, else that of
    .env. It is only read, and no model is asked.
    The usual pipeline and the repository's path are written to .env.
    """
    settings = load_settings()
    root = _root(settings)
    try:
        proposal = run(_propose(settings, root))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        output.write_json({**proposal.document, "agents_file": proposal.agents_file()})
        return
    files = Files(settings.agents_file, environment_file(), proposal)
    if not force:
        files.check()
    _show(proposal)
    for line in files.write():
        output.say(line)
    for warning in proposal.warnings:
        output.say(f"Before the first requirement: {warning}")
    if with_rehearsal:
        code = rehearsal(load_settings())
        if code is not OK:
            raise typer.Exit(code)
    output.write("Next, with a requirement in a Markdown file:")
    output.hint("  python starter.py run requirement.md")


def _root(settings: Settings) -> Path:
    if settings.project_root is not None and not other_repository(settings):
        return settings.project_root.expanduser().absolute()
    here = Path.cwd()
    if here == HERE:
        raise ProjectRefused(
            "This is the orchestrator's own directory. Run init in your repository, or set"
            " PROJECT_ROOT to it."
        )
    return repository_here() or here


async def _propose(settings: Settings, root: Path) -> Proposal:
    """Read the project first: a refusal of it needs no probes."""
    files = await list_project(root)
    environment = settings.children_environment
    kinds = [kind for kind, each in PROGRAMS.items() if not each.traits.is_remote]
    probes = (asyncio.to_thread(find_program, kind, environment) for kind in kinds)
    programs = [found for found in await asyncio.gather(*probes) if found]
    names = tuple((await Git(root).run("remote")).text.splitlines())
    remotes = Remotes(names, bool(shutil.which("gh", path=environment.get("PATH", ""))))
    return propose(str(root), find_sides(files, _SITE_CHECK), programs, remotes)


class Files:
    """The files that are written: the agents file, and lines of `.env` for the settings."""

    def __init__(self, agents: Path, environment: Path, proposal: Proposal) -> None:
        self._agents, self._agents_text = agents, proposal.agents_file()
        self._environment, self._settings = environment, proposal.settings
        self._pipeline = proposal.pipeline
        self._set = dotenv_values(environment) if environment.exists() else {}

    def check(self) -> None:
        """Raises: RefusedInput that names everything which would be overwritten."""
        there = []
        if self._agents.exists() and read_text(self._agents, "Agents file") != self._agents_text:
            there.append(f"{self._agents} is there already")
        for name, value in self._settings.items():
            if (now := self._set.get(name)) and now != value:
                there.append(f"{self._environment} sets {name} to {now}, which would be {value}")
        if there:
            raise RefusedInput(
                f"{'; '.join(there)}. Nothing was written. Overwrite with --force, or only look"
                " with --json."
            )

    def write(self) -> tuple[str, ...]:
        """Write both or none, and read them as every command will; what was written.

        Raises: RefusedInput if a file cannot be written.
        """
        before = self._agents.read_text("utf-8") if self._agents.exists() else None
        lines = {name: each for name, each in self._settings.items() if self._set.get(name) != each}
        try:
            write_atomically(self._agents, self._agents_text)
            check_plan(find_agents(self._agents), find_pipeline(self._pipeline))
            if lines:
                text = self._environment.read_text("utf-8") if self._environment.exists() else ""
                write_atomically(self._environment, with_lines(text, lines), mode=PRIVATE_FILE)
        except (OSError, RefusedInput) as error:
            with suppress(OSError):
                if before is None:
                    self._agents.unlink(missing_ok=True)
                else:
                    write_atomically(self._agents, before)
            raise RefusedInput(f"Nothing was written: {error}") from error
        written = [f"Wrote {self._agents}."]
        if lines:
            written.append(f"Set {', '.join(lines)} in {self._environment}.")
        return tuple(written)


def with_lines(text: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` that gives these values; every other line stays as it is."""
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        line = f"{name}={value}" if re.fullmatch(r"[\w./:@%+-]+", value) else f"{name}='{escaped}'"
        pattern = re.compile(rf"^[ \t]*(export[ \t]+)?{name}[ \t]*=.*$", re.MULTILINE)
        if pattern.search(text):
            text = pattern.sub(lambda _, line=line: line, text)  # type: ignore[misc]
        else:
            text += f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"
    return text


def _show(proposal: Proposal) -> None:
    """The proposal for people: what, and why."""
    rows = output.table("", "", "because", fold=("", "because"))
    rows.add_row("project", output.plain(proposal.project), "")
    rows.add_row("pipeline", proposal.pipeline, proposal.pipeline_reason)
    rows.add_row("agents", proposal.kind, proposal.kind_reason)
    for side in proposal.sides:
        for name, value, reason in _of_side(side):
            rows.add_row(name, output.plain(value), output.plain(reason))
    console = output.data()
    console.print(rows)
    for note in proposal.notes:
        output.say(f"Left out: {note}.")
    for offer in proposal.offers:
        output.say(offer)


def _of_side(side: SideFound) -> tuple[tuple[str, str, str], ...]:
    prepare = ((f"{side.side} prepare", _line(side.prepare), side.prepare_reason),)
    return (
        (f"{side.side} directory", side.directory, side.directory_reason),
        *(prepare if side.prepare else ()),
        (f"{side.side} build", _line(side.command), side.command_reason),
    )


def _line(argv: tuple[str, ...]) -> str:
    return argv[-1] if argv[:2] == ("sh", "-c") else shlex.join(argv)
