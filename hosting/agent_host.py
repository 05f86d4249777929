"""`worker.py --role agent-host`: serves agents of an installation that runs on other machines.

It needs NATS and the programs of its agents, and neither Temporal nor a database.
"""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

from adapters.builds.project_builds import ProjectBuilds
from adapters.current_agents import CurrentAgents
from adapters.locks import home_lock
from adapters.nats.connection import close_connection, open_connection
from adapters.programs import await_children_by_descriptor
from adapters.remote.agent_host import AgentHost
from adapters.runs.host import HostRuns
from adapters.runs.resources import RunResources
from adapters.runs.slots import SlotLimit
from hosting.logins import nats_login
from pipeline.errors import RefusedInput
from pipeline.team import AGENT_NAME, is_agent_name
from settings import Settings

log = logging.getLogger("agog.agent-host")


async def serve_agents(settings: Settings) -> None:
    """Take work items until SIGTERM or SIGINT; running agents continue, and are found again.

    Raises: DependencyUnavailable; RefusedInput for names that are none, or a bad agents file.
    """
    names = settings.agents_served
    if not names or not all(map(is_agent_name, names)):
        found = f"holds {', '.join(names)!r}" if names else "is not set, and neither is NATS_USER"
        raise RefusedInput(
            f"AGOG_SERVED_AGENTS {found}: name the agents whose work this agent host takes, with "
            f"commas. A name {AGENT_NAME}."
        )
    await_children_by_descriptor()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    home = settings.home.resolve()
    environment = settings.children_environment
    agents = CurrentAgents(settings.agents_file, home, environment)
    async with AsyncExitStack() as stack:
        stack.enter_context(home_lock(home))
        login = nats_login(settings)
        client = await open_connection(login.url, login.user, login.password)
        stack.push_async_callback(close_connection, client)
        limit = SlotLimit(home, settings.max_parallel_stages)
        resources = RunResources(home, settings.run_ports)
        runs = HostRuns(home, agents, limit, environment, resources)
        builds = ProjectBuilds(agents, home, environment, resources)
        await asyncio.to_thread(runs.remove_leftovers)
        host = AgentHost(home, settings.host, client, runs, builds, agents)
        host.check(names)
        serving = asyncio.create_task(host.serve(names))
        stopping = asyncio.create_task(stop.wait())
        log.info("Agent host %s is ready for %s", settings.host, ", ".join(names))
        tasks = {serving, stopping, asyncio.create_task(agents.watch())}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks - done, return_exceptions=True)
        for task in done:
            task.result()
        log.info("Stopping; running agents continue and are found again")
