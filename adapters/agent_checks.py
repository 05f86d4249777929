"""What a host lacks that its agents file names: programs, variables, newer versions of programs."""

import asyncio
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence

from adapters.agent_programs import PROGRAMS, version_of_program
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import BUILD_ARGV, Agent, AgentsFile, BuildCommand, SimulatedAgent
from pipeline.delivery_settings import GH_VARIABLES, DeliveryMode
from pipeline.model import Pipeline

_NUMBERS = re.compile(r"\d+")


async def what_is_outdated(
    agents: AgentsFile, environment: Mapping[str, str], pipelines: Sequence[Pipeline] | None = None
) -> tuple[str, ...]:
    """One line for each known program that is older than what was tested; asks no model.

    It takes as long as the programs take to tell their versions: up to seconds.
    """
    asked = {
        (agent.kind, agent.program)
        for _, agent in _described(agents, pipelines)
        if isinstance(agent, ProgramAgent)
    }
    found = await asyncio.gather(
        *(asyncio.to_thread(_old_version, *each, environment) for each in sorted(asked))
    )
    return tuple(filter(None, found))


def what_is_missing(
    agents: AgentsFile, environment: Mapping[str, str], pipelines: Sequence[Pipeline] | None = None
) -> tuple[str, ...]:
    """One line for each program that is not found and each variable that is not set.

    Of all that the file describes, or of what these pipelines need; no process is started.
    """
    lines: dict[str, list[str]] = {}
    for who, programs, variables in _needs(agents, pipelines):
        for program in programs:
            if not shutil.which(program, path=environment.get("PATH", "")):
                lines.setdefault(f"the program {program} is not found", []).append(who)
        for name in variables:
            if name not in environment:
                lines.setdefault(f"the variable {name} is named but not set", []).append(who)
    return tuple(f"{', '.join(names)}: {what}" for what, names in lines.items())


def split_by_need(
    missing: Sequence[str], agents: AgentsFile, pipelines: Sequence[Pipeline]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines of `what_is_missing`: those that concern these pipelines, and the others."""
    needed = {who for who, _, _ in _needs(agents, pipelines)}
    concern = [line for line in missing if needed & set(line.partition(": ")[0].split(", "))]
    return tuple(concern), tuple(line for line in missing if line not in concern)


def _needs(
    agents: AgentsFile, pipelines: Sequence[Pipeline] | None
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Who needs which programs and variables."""
    for name, agent in _described(agents, pipelines):
        if isinstance(agent, SimulatedAgent):
            continue
        program = agent.program if isinstance(agent, ProgramAgent) else agent.command[0]
        yield name, (program,), agent.environment
    wanted = None if pipelines is None else {name for each in pipelines for name in each.builds}
    for name, build in agents.builds.items():
        # One that nobody has described is built by nobody, unless a pipeline says so.
        is_needed = build != BuildCommand(name, BUILD_ARGV) if wanted is None else name in wanted
        if isinstance(build, BuildCommand) and is_needed:
            commands = (build.command, build.prepare)
            # A path with a slash lies in the checkout, which is not there yet.
            programs = tuple(each[0] for each in commands if each and "/" not in each[0])
            yield f"build {name}", tuple(dict.fromkeys(programs)), build.environment
    if agents.sasha:
        yield "sasha", (agents.sasha.command[0],), agents.sasha.environment
    delivery = agents.delivery
    if delivery.mode is DeliveryMode.PULL_REQUEST:
        programs = tuple(each[0] for each in (delivery.command, delivery.find) if each)
        # Nobody has named the variables of `gh`: it may be logged in without any of them.
        named = () if delivery.environment == GH_VARIABLES else delivery.environment
        yield "delivery", tuple(dict.fromkeys(programs)), named


def _described(
    agents: AgentsFile, pipelines: Sequence[Pipeline] | None
) -> Iterator[tuple[str, Agent]]:
    """The agents of the file that are needed, and those of the pipelines that it does not name."""
    if pipelines is None:
        yield from agents.agents.items()
        return
    needed = dict.fromkeys(stage.agent for pipeline in pipelines for stage in pipeline.stages)
    added = (name for name in needed if name not in agents.agents)
    for name in (*(name for name in agents.agents if name in needed), *added):
        if agent := agents.agent(name):
            yield name, agent


def _old_version(kind: str, program: str, environment: Mapping[str, str]) -> str:
    """What is wrong with the version of a program; empty if nothing is, or it is not found."""
    path = shutil.which(program, path=environment.get("PATH", ""))
    if path is None:
        return ""
    version, why = version_of_program(path, environment)
    if not version:
        return f"{program} --version does not tell a version ({why}): try it by hand"
    tested = PROGRAMS[kind].traits.tested
    if tested and _numbers(version) < _numbers(tested):
        return f"{program} is {version}, and {kind} was tested with {tested}: update it"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what a pre-release adds."""
    return tuple(map(int, _NUMBERS.findall(version.partition("-")[0])))
