"""`up`: the embedded servers and a worker, in the foreground."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated

import typer
from rich.panel import Panel
from temporalio.envconfig import ClientConfig

from adapters.agent_checks import what_is_missing, what_is_outdated
from adapters.local_stack import ChildSpec, LocalStack, StackAddresses, StackIncident, keeper_of
from adapters.runs.inventory import count_runs
from adapters.sdlc.migrate import upgrade
from adapters.user_files import find_agents
from cli import output
from cli.hints import wrong_installation
from cli.running import load_settings, run
from pipeline.agents_file import AgentsFile
from pipeline.errors import DependencyUnavailable
from settings import HERE, EnvironmentSettings, Settings

EXAMPLES = {
    "up": """
Examples:

  python starter.py up

  AGOG_AGENTS_FILE=my-agents.toml PROJECT_ROOT=~/shop python starter.py up

  python starter.py up --no-worker
""",
    "down": """
Examples:

  python starter.py down

  AGOG_HOME=~/agog python starter.py down
""",
}

_END_SECONDS = 60.0
"""Servers are stopped one after another, each within seconds."""
_POLL_SECONDS = 0.1


def up(
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Servers only; run worker.py yourself.")
    ] = False,
) -> None:
    """Run Temporal, NATS, PostgreSQL and a worker until Ctrl-C.

    A server that the environment names is used instead of started. Running agents survive the end;
    the next worker finds them again. `down` ends it from anywhere.
    """
    settings = load_settings()
    children: tuple[ChildSpec, ...] = ()
    agents = None
    if not no_worker:
        agents = find_agents(settings.agents_file)
        for warning in what_is_missing(agents, settings.children_environment):
            output.say(f"Warning: {warning}.")
        environment = {**settings.children_environment, "AGOG_HOME": str(settings.home)}
        children = (worker_process(environment),)
    try:
        run(_up(_stack(settings, children), settings, agents))
    except KeyboardInterrupt:
        output.say("Stopped.")


def down() -> None:
    """Stop what `up` or `run` has started, from anywhere. Running agents survive.

    Nothing is cancelled: the next `up` continues every open requirement.
    """
    settings = load_settings()
    keeper = keeper_of(settings.home)
    process = keeper.process() if keeper else None
    if keeper is None or process is None:
        output.say(f"Nothing of `up` runs on {settings.home}.")
        return
    process.terminate()
    ends_by = monotonic() + _END_SECONDS
    while keeper.process():
        if monotonic() > ends_by:
            raise DependencyUnavailable(
                "`up`", f"process {keeper.pid}", f"It has not ended: kill -9 {keeper.pid}"
            )
        sleep(_POLL_SECONDS)
    living = count_runs(settings.home).living
    runs = f" {living} running agents go on; the next `up` finds them again." if living else ""
    output.say(f"Stopped.{runs}")


def worker_process(environment: Mapping[str, str]) -> ChildSpec:
    """The worker as a child of a stack. SIGTERM ends it and leaves its agents running."""
    argv = (sys.executable, str(HERE / "worker.py"))
    return ChildSpec("worker", argv, environment, stop_signal=signal.SIGTERM)


@asynccontextmanager
async def running(stack: LocalStack) -> AsyncIterator[StackAddresses]:
    """Start, migrate and watch the stack; stop it in order when the block ends."""
    addresses = await stack.start()
    watcher = asyncio.create_task(stack.watch(_report))
    try:
        await asyncio.to_thread(upgrade, addresses.database_url)
        yield addresses
    finally:
        await stack.stop()
        await watcher


async def _up(stack: LocalStack, settings: Settings, agents: AgentsFile | None) -> None:
    output.say("Starting …")
    async with running(stack) as addresses:
        if stack.leftovers:
            output.say(f"Ended the processes of a killed stack: {', '.join(stack.leftovers)}.")
        for moved in stack.moved_ports:
            output.say(f"Port {moved.expected} is taken: {moved.name} listens on {moved.actual}.")
        output.data().print(_panel(addresses, settings.home))
        if stranger := await wrong_installation(load_settings()):
            output.complain(stranger)  # the worker takes nothing until this is solved
        if agents:  # programs take their time to tell their versions
            for warning in await what_is_outdated(agents, settings.children_environment):
                output.say(f"Warning: {warning}.")
        await asyncio.Event().wait()


def _stack(settings: Settings, children: tuple[ChildSpec, ...]) -> LocalStack:
    """A stack of the servers that the environment does not name.

    `EnvironmentSettings` leaves out the addresses that an earlier `stack.json` holds.
    """
    named = EnvironmentSettings()
    password = named.nats_password
    is_named = named.model_fields_set
    return LocalStack(
        settings.home,
        temporal_address=ClientConfig.load_client_connect_config().get("target_host")
        or named.temporal_address,
        nats_url=named.nats_url if "nats_url" in is_named else None,
        nats_user=named.nats_user,
        nats_password=password.get_secret_value() if password else None,
        database_url=named.database_url.get_secret_value() if "database_url" in is_named else None,
        children=children,
        usual_ports=settings.usual_ports,
    )


def _panel(addresses: StackAddresses, home: Path) -> Panel:
    rows = {
        "Web UI": addresses.web_ui or "not ours",
        "Temporal": addresses.temporal_address,
        "NATS": addresses.nats_url,
        "PostgreSQL": addresses.database_url.rpartition("@")[2],
        "Logs": str(home / "logs"),
        "Passwords": str(home / "stack.json"),
    }
    text = "\n".join(f"{name:<11}{value}" for name, value in rows.items())
    text += "\n\nCtrl-C stops everything except running agents."
    return Panel(text, title="Agog is up", expand=False)


def _report(incident: StackIncident) -> None:
    output.say(f"{incident.member} {incident.problem}: {incident.outcome}.")
