"""`run`: from a requirement in a file to its result, in one command."""

import asyncio
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from adapters.files import make_private_directory, read_tail
from adapters.local_stack.state import read_stack
from adapters.sdlc.migrate import pending
from adapters.user_files import find_agents, read_text
from cli import output
from cli.connections import records
from cli.hints import missing_worker
from cli.inputs import (
    BUDGET_HELP,
    PIPELINE_HELP,
    PRIORITY,
    TARGET_HELP,
    Submission,
    number_and_title,
    number_of_file,
    read_task,
)
from cli.running import ExitCode, load_settings, run
from cli.start import Intake, check_needed_project, start_all, target_of
from cli.watch import detach
from pipeline.errors import DependencyUnavailable, ServerNotStarted
from pipeline.model import Priority
from pipeline.phases import OPEN_STATES
from settings import HERE, EnvironmentSettings, Settings

EXAMPLES = {
    "run": """
Examples:

  python starter.py run requirement.md

  python starter.py run login.md --req REQ-101 --priority P1

The first line is the title, the rest the description. The number may stand before the title, as in
# REQ-101: Log in by e-mail; else it is made from the file's name.
"""
}

_SERVERS = ("temporal_address", "nats_url", "database_url")
_READY_SECONDS = 120.0
"""The first start makes a database."""
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.2
_QUOTE_BYTES = 2000


def run_file(
    file: Annotated[Path, typer.Argument(help="Its first line is the title.")],
    req: Annotated[
        str | None, typer.Option("--req", help="Its number; default: from the file.")
    ] = None,
    priority: Annotated[
        Priority, typer.Option("--priority", help="P0 (catastrophic) to P4.")
    ] = PRIORITY,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help=PIPELINE_HELP)] = None,
    budget: Annotated[float | None, typer.Option("--budget", help=BUDGET_HELP)] = None,
    target: Annotated[str | None, typer.Option("--target", help=TARGET_HELP)] = None,
) -> None:
    """Run a requirement from a file to its result.

    Where no servers run, they are started with a worker, as by `up`, and stopped once nothing is
    open any more. Ctrl-C detaches and cancels nothing.
    """
    title, description = read_task(read_text(file, "Requirement file"), str(file))
    req, title = number_and_title(req, title, str(file))
    number = req or number_of_file(file)
    task = Submission(
        *(number, title, description, priority, pipeline or ""),
        budget=budget,
        target=target_of(target),
    )
    errand = Errand(task, is_named=req is not None)
    try:
        code = run(errand.run())
    except KeyboardInterrupt:
        code = errand.interrupted()
    raise typer.Exit(code)


@dataclass
class Errand:
    """One requirement on its way; `servers` are those that were started for it."""

    task: Submission
    is_named: bool
    """Whether the user gave the number; one that we made gives way to an earlier requirement."""
    servers: "Servers | None" = None
    number: str = ""
    """Set once it may have been started."""

    async def run(self) -> ExitCode:
        """Check what needs no server, start the servers if none run, start it and follow it."""
        settings = load_settings()
        await check_needed_project(settings, _intake(settings, self.task))
        try:
            if not _servers_run(settings):
                self.servers = await asyncio.to_thread(Servers.start, settings)
                settings = await self.servers.ready()
            task = await self._numbered(settings)
            intake = _intake(settings, task)
            self.number = task.number
            code = await start_all(settings, intake, attach=True, wait=True)
        except Exception:
            self._stop()
            raise
        await self._leave(settings, code)
        return code

    def interrupted(self) -> ExitCode:
        """Detach from it, or stop what was started for it if it was not started itself."""
        if not self.number:
            self._stop()
            return ExitCode.INTERRUPTED
        code = detach([self.number])
        if self.servers:
            output.say("Servers and worker keep running; end them: python starter.py down")
        return code

    async def _numbered(self, settings: Settings) -> Submission:
        """The task with a number that is free, or that of the same task, still open."""
        if self.is_named:
            return self.task
        base = self.task.number
        async with records(settings) as reader:
            for nth in count(1):
                number = base if nth == 1 else f"{base}-{nth}"
                state = (await reader.states([number])).get(number)
                if state is None:
                    break
                if state in OPEN_STATES and (await reader.order(number)).title == self.task.title:
                    break
        return replace(self.task, number=number)

    async def _leave(self, settings: Settings, code: ExitCode) -> None:
        if self.servers is None:
            return
        async with records(settings) as reader:
            is_open = bool(await reader.requirements(states=OPEN_STATES))
        if not is_open and code is not ExitCode.NEEDS_HUMAN:
            await asyncio.to_thread(self._stop)
            return
        output.say(
            "Servers and worker keep running for what is still open;"
            " end them: python starter.py down"
        )

    def _stop(self) -> None:
        if self.servers:
            self.servers.stop()


def _intake(settings: Settings, task: Submission) -> Intake:
    intake = Intake(find_agents(settings.agents_file), settings.pipeline)
    intake.take(task)
    return intake


def _servers_run(settings: Settings) -> bool:
    """Whether `up` runs here, or the environment names all servers, of which somebody takes care.

    `EnvironmentSettings` leaves out the addresses that an earlier `stack.json` holds.
    """
    named = EnvironmentSettings()
    everything = all(name in named.model_fields_set for name in _SERVERS)
    return everything or read_stack(settings.home) is not None


class Servers:
    """`starter.py up` in the background, in a session of its own: Ctrl-C does not reach it."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    def start(cls, settings: Settings) -> "Servers":
        """Start it; it is not ready yet."""
        log = make_private_directory(settings.home / "logs") / "up.log"
        output.say(f"Starting servers and a worker (their log: {log}) …")
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "starter.py"), "up"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=settings.children_environment,
                start_new_session=True,
            )
        return cls(process, log)

    async def ready(self) -> Settings:
        """Wait until servers and worker are there; the settings that name them.

        Raises: ServerNotStarted with the end of its log.
        """
        home = load_settings().home
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    if self._process.poll() is not None:
                        raise ServerNotStarted("`up`", self._told("it has ended"))
                    if (stack := read_stack(home)) and await _is_current(stack.database_url):
                        settings = load_settings()
                        if not missing_worker(settings, [settings.host]):
                            return settings
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            told = self._told(f"not ready in {_READY_SECONDS:.0f} s")
            raise ServerNotStarted("`up`", told) from None

    def stop(self) -> None:
        """End it as Ctrl-C would, and wait for that; running agents survive."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            output.say("Servers and worker have not ended yet: python starter.py down")
        else:
            output.say(
                "Servers and worker stopped. To look at it later (status, diff, costs), start them"
                " with: python starter.py up"
            )

    def _told(self, reason: str) -> str:
        return f"{reason}. The end of {self._log}:\n{read_tail(self._log, _QUOTE_BYTES)}"


async def _is_current(database_url: str) -> bool:
    try:
        return not await asyncio.to_thread(pending, database_url)
    except DependencyUnavailable:
        return False
