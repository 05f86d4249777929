"""The doctor's probes of this host: git, agents file, project, disk, load, slots."""

import asyncio
import shutil
from dataclasses import asdict

from adapters.care.memory import measure
from adapters.git import Git
from adapters.git.project import check_project
from adapters.readiness import disk_problem, free_bytes
from adapters.runs.inventory import count_runs
from adapters.runs.slots import SlotLimit
from adapters.user_files import find_agents
from cli.doctor.checks import Finding, Kind, Probe
from cli.inputs import find_pipeline
from cli.slots import slots_document
from pipeline.agents_file import CommandAgent, SimulatedAgent, check_plan
from settings import HERE, Settings


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
    agents = find_agents(settings.agents_file)
    check_plan(agents, find_pipeline(settings.pipeline))
    programs = {
        name: agent.command[0] if isinstance(agent, CommandAgent) else agent.program
        for name, agent in agents.agents.items()
        if not isinstance(agent, SimulatedAgent)
    }
    absent = [
        f"{name}: {program}" for name, program in programs.items() if not shutil.which(program)
    ]
    advice = f"Programs not found: {', '.join(absent)}." if absent else ""
    simulated = len(agents.agents) - len(programs)
    return Finding(detail=f"{len(programs)} programs, {simulated} simulated", advice=advice)


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
