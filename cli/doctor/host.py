"""The doctor's probes of this host: git, agents file, project, disk, load, slots."""

import asyncio
import shutil
from dataclasses import asdict

from adapters.agent_checks import split_by_need, what_is_missing, what_is_outdated
from adapters.care.memory import measure
from adapters.current_agents import read_in_use
from adapters.git import Git
from adapters.git.project import check_project
from adapters.readiness import disk_problem, free_bytes
from adapters.runs.inventory import count_runs
from adapters.runs.slots import SlotLimit
from adapters.user_files import find_agents
from adapters.waiting import within
from cli.doctor.checks import Finding, Kind, Probe
from cli.inputs import find_pipeline, pipelines_here
from cli.slots import slots_document
from pipeline.agents_file import SimulatedAgent, check_plan, strangers
from pipeline.errors import RefusedInput
from settings import HERE, Settings

_VERSION_SECONDS = 5.0
"""Less than the doctor gives a check: old versions are a warning and no fault."""


def host_probes(settings: Settings) -> tuple[Probe, ...]:
    """One for each thing that this host provides."""
    project = str(settings.project_root or "PROJECT_ROOT")
    return (
        Probe("git", Kind.CONFIGURATION, shutil.which("git") or "", _git),
        Probe(
            "Agents file", Kind.CONFIGURATION, str(settings.agents_file), lambda: _agents(settings)
        ),
        Probe("Project", Kind.CONFIGURATION, project, lambda: _project(settings)),
        Probe("Disk", Kind.CONFIGURATION, str(settings.home), lambda: _disk(settings)),
        Probe("Memory", Kind.CONFIGURATION, settings.host, _memory),
        Probe(
            "Slots",
            Kind.CONFIGURATION,
            str(settings.home),
            lambda: asyncio.to_thread(_slots, settings),
        ),
    )


async def _git() -> Finding:
    if not shutil.which("git"):
        return Finding(advice="Install git 2.38 or newer.")
    return Finding((await Git(HERE).run("--version")).line.removeprefix("git version "))


async def _agents(settings: Settings) -> Finding:
    """The file, and what a living worker uses of it and lacks: that has its own environment."""
    in_use = await asyncio.to_thread(read_in_use, settings.home)
    try:
        agents = find_agents(settings.agents_file)
        pipeline = find_pipeline(settings.pipeline)
        check_plan(agents, pipeline)
    except RefusedInput as refusal:
        return Finding(advice=in_use.told if in_use and in_use.problem else str(refusal))
    if in_use and in_use.path == str(settings.agents_file):
        missing, idle = split_by_need(in_use.missing, agents, [pipeline])
        outdated = in_use.outdated
        used = f", the worker uses version {in_use.version}"
    else:
        environment, used = settings.children_environment, ""
        missing = what_is_missing(agents, environment, [pipeline])
        _, idle = split_by_need(what_is_missing(agents, environment), agents, [pipeline])
        try:
            asking = what_is_outdated(agents, environment, [pipeline])
            outdated = await within(_VERSION_SECONDS, asking)
        except TimeoutError:
            outdated = ("programs did not tell their versions in time",)
    idle = tuple(f"{each}, which {pipeline.name} does not use" for each in idle)
    simulated = sum(isinstance(agent, SimulatedAgent) for agent in agents.agents.values())
    detail = f"{len(agents.agents) - simulated} programs, {simulated} simulated{used}"
    return Finding(
        version=in_use.version if in_use else "",
        detail="; ".join((detail, *idle, *outdated, *strangers(agents, pipelines_here(settings)))),
        advice=f"Missing: {'; '.join(missing)}." if missing else "",
        facts={"missing": missing, "outdated": outdated},
    )


async def _project(settings: Settings) -> Finding:
    if settings.project_root is None:
        agents = find_agents(settings.agents_file)
        if agents.is_simulated(find_pipeline(settings.pipeline)):
            return Finding(detail="not needed: everything is simulated")
        return Finding(advice="Set PROJECT_ROOT to the git repository that agents work on.")
    project = await check_project(settings.project_root, settings.git_filters)
    return Finding(project.commit[:10], f"on {project.branch}")


async def _disk(settings: Settings) -> Finding:
    free = await asyncio.to_thread(free_bytes, settings.home)
    least = settings.min_free_disk_bytes
    problem = await asyncio.to_thread(disk_problem, settings.home, least)
    advice = f"Nothing new starts here: {problem} Make room." if problem else ""
    facts = {"free_bytes": free, "least_bytes": settings.min_free_disk_bytes}
    return Finding(detail=f"{free / 1024**3:.1f} GiB free", advice=advice, facts=facts)


async def _memory() -> Finding:
    """A shortage is Sasha's to treat: it makes the host slower and not unusable."""
    memory = measure()
    return Finding(detail=memory.told, facts={**asdict(memory), "is_short": memory.is_short})


def _slots(settings: Settings) -> Finding:
    slots = SlotLimit(settings.home, settings.max_parallel_stages)
    document = slots_document(slots, count_runs(settings.home))
    counts = ", ".join(f"{document[name]} {name}" for name in ("living", "suspended", "waiting"))
    lowered = slots.lowered()
    why = f"; lowered: {lowered.why}" if lowered else ""
    return Finding(detail=f"{slots.current()} slots; agents: {counts}{why}", facts=document)
