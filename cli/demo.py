"""`demo`: one requirement on embedded servers, in a directory of its own.

Nothing of the user's shell, configuration or stack has an effect on it.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from adapters.git.store import store_path
from adapters.local_stack import Child, LocalStack, StackAddresses
from adapters.local_stack.child import log_tail
from adapters.sdlc.reader import SdlcReader, create_reader
from adapters.sdlc.views import FailureView, NoteView, PerformanceView, RequirementView, RunView
from cli import output
from cli.demo_kills import AGENTS, Killings, Survived, count_survived, sentence
from cli.running import ENDS, AsJson, ExitCode, run
from cli.status import failure_text, fix_document, fixes_part, report
from cli.up import running, worker_process
from demo.project import agents_file, make_project
from pipeline.errors import RefusedInput, ServerNotStarted
from pipeline.model import REWORK, RequirementState
from pipeline.numbers import integration_branch
from settings import HERE, process_environment

EXAMPLES = {
    "demo": """
Examples:

  python starter.py demo

  python starter.py demo --kill

  python starter.py demo --break-build

  python starter.py demo --conflict --request-changes

  python starter.py demo --keep
"""
}

T = TypeVar("T")

NUMBER = "REQ-DEMO-1"
TITLE = "Greet people in their own language"
DESCRIPTION = "The backend knows three languages; the page follows the language of the browser."
PIPELINE = "standard"

MINUTE_SECONDS = 0.025
"""One minute of the guide; its 375 minutes of parallel work pass in ten seconds."""

_NEXT = (
    "Next: python starter.py demo --keep leaves it up, with its Web UI; demo --kill kills its own"
    " worker and servers while agents work. For your own project, in its repository:"
    " python starter.py init"
)

_PASSED = ("PATH", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR", "TZ")
DEFAULTS = {
    "ENABLE_PARALLEL_EXECUTION": "true",
    "MAX_PARALLEL_STAGES": "4",
    "AGOG_HOST_REQUIREMENTS": "50",
    "AGOG_HEARTBEAT_SECONDS": "3",
    "AGOG_LOG_LEVEL": "INFO",
}


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave servers, worker and project up until Ctrl-C.")
    ] = False,
    break_build: Annotated[
        bool, typer.Option("--break-build", help="A build breaks, and its owner repairs it.")
    ] = False,
    conflict: Annotated[
        bool, typer.Option("--conflict", help="Two agents change one line; the second resolves it.")
    ] = False,
    request_changes: Annotated[
        bool, typer.Option("--request-changes", help="A review sends the research back once.")
    ] = False,
    kill: Annotated[
        bool,
        typer.Option("--kill", help="Kill the worker, then all servers, while two agents work."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take one requirement through the team, on its own servers.

    Agents are real processes. Everything happens in a temporary directory, which is removed at the
    end. The failures can be combined; they are repaired, and the requirement is delivered.
    """
    mishaps = {
        "break-build": break_build,
        "conflict": conflict,
        "request-changes": request_changes,
    }
    wrong = tuple(name for name, is_wanted in mishaps.items() if is_wanted)
    if kill and wrong:
        raise RefusedInput(f"--kill stands alone, without --{wrong[0]}: it counts what repeats.")
    directory = DemoDirectory(Path(tempfile.mkdtemp(prefix="agog-demo-")))
    try:
        code = run(_demo(directory, wrong, kills=kill, keep=keep, as_json=as_json))
    finally:
        if keep:
            output.say(f"Kept: {directory.root}")
        else:
            shutil.rmtree(directory.root)
    raise typer.Exit(code)


@dataclass(frozen=True)
class DemoDirectory:
    """The temporary directory of a demo, and the environment of the processes that run in it."""

    root: Path

    @property
    def project(self) -> Path:
        """The git project that the agents work on."""
        return self.root / "project"

    @property
    def state(self) -> Path:
        """The state directory of stack and worker."""
        return self.root / "state"

    @property
    def agents(self) -> Path:
        """The agents file."""
        return self.root / "agents.toml"

    @property
    def release(self) -> Path:
        """The file that lets the agents end who are not to end before everything was killed."""
        return self.root / "release"

    def fill(self, mishaps: Sequence[str], lasting: Sequence[str] = ()) -> None:
        """Create project and agents file; `mishaps` are what the agents do wrong.

        Those who are `lasting` work until they are released.
        """
        self.project.mkdir()
        make_project(self.project, self.shell)
        text = agents_file(mishaps, MINUTE_SECONDS, dict.fromkeys(lasting, self.release))
        self.agents.write_text(text, encoding="utf-8")

    @property
    def shell(self) -> Mapping[str, str]:
        """The part of the user's environment that is passed on, without their configuration."""
        given = process_environment()
        passed = {name: given[name] for name in _PASSED if name in given}
        return {**passed, "HOME": str(self.root)}

    @property
    def variables(self) -> Mapping[str, str]:
        """What to export in another terminal to use the demo from there."""
        return {
            "AGOG_HOME": str(self.state),
            "AGOG_HOST": "demo",
            "AGOG_AGENTS_FILE": str(self.agents),
            "PROJECT_ROOT": str(self.project),
        }

    def environment(self, addresses: StackAddresses) -> Mapping[str, str]:
        """The whole environment of the worker and of the commands.

        Every setting is named, so that neither the user's shell nor a `.env` can change one.
        """
        return {**self.shell, **DEFAULTS, **self.variables, **variables_of(addresses)}


def variables_of(addresses: StackAddresses) -> Mapping[str, str]:
    """The settings by which a command finds the servers."""
    named = {
        "TEMPORAL_ADDRESS": addresses.temporal_address,
        "AGOG_WEB_UI": addresses.web_ui,
        "NATS_URL": addresses.nats_url,
        "NATS_USER": addresses.nats_user,
        "NATS_PASSWORD": addresses.nats_password,
        "DATABASE_URL": addresses.database_url,
    }
    return {name: value for name, value in named.items() if value}


async def _demo(
    directory: DemoDirectory, mishaps: Sequence[str], *, kills: bool, keep: bool, as_json: bool
) -> ExitCode:
    output.say("Starting Temporal, NATS, PostgreSQL and a worker …")
    await asyncio.to_thread(directory.fill, mishaps, AGENTS if kills else ())
    # The usual ports are left to the user's own stack.
    async with running(LocalStack(directory.state, usual_ports=False)) as addresses:
        environment = directory.environment(addresses)
        async with worker_in(directory.state, environment) as worker:
            survived = None
            if kills:
                code, killed = await _deliver_through_kills(directory, worker, addresses)
                if code in ENDS:
                    survived = await count_survived(addresses, NUMBER, killed)
            else:
                code = await beside(worker, _deliver(environment))
            if code not in ENDS:
                return code  # the command has printed why
            done = await _outcome(directory, addresses, survived, is_kept=keep)
            if as_json:
                output.write_json(_document(done))
            else:
                _show(done)
            if keep:
                await _keep(directory, addresses)
            else:
                output.say(_NEXT)
            return code


async def _deliver_through_kills(
    directory: DemoDirectory, worker: Child, addresses: StackAddresses
) -> tuple[ExitCode, list[tuple[str, ...]]]:
    """Deliver while everything is killed that the agents do not need; what was killed."""
    reader = create_reader(addresses.database_url)
    kills = Killings(directory.state, worker, directory.release, reader)
    delivering = asyncio.create_task(_deliver(directory.environment(addresses)))
    killing_all = asyncio.create_task(kills.run(NUMBER))
    keeping = asyncio.create_task(kills.keep_worker())
    tasks = (delivering, killing_all, keeping)
    try:
        await asyncio.wait((delivering, killing_all), return_when=asyncio.FIRST_COMPLETED)
        if not delivering.done():
            await killing_all
        return await delivering, kills.done
    finally:
        for task in (killing_all, delivering):  # a worker is needed to cancel what it has begun
            task.cancel()
        await asyncio.wait((killing_all, delivering))
        keeping.cancel()
        await asyncio.wait(tasks)
        await reader.close()


@asynccontextmanager
async def worker_in(state: Path, environment: Mapping[str, str]) -> AsyncIterator[Child]:
    """A worker of that state directory for the block."""
    worker = Child(worker_process(environment), state)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def beside(worker: Child, work: Coroutine[None, None, T]) -> T:
    """Do the work, which would wait for ever without a worker.

    Raises: ServerNotStarted if the worker dies first.
    """
    working, dying = asyncio.create_task(work), asyncio.create_task(worker.exited())
    try:
        await asyncio.wait((working, dying), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ServerNotStarted("Worker", log_tail(worker.log))
        return await working
    finally:
        for task in (working, dying):
            task.cancel()
        await asyncio.wait((working, dying))


async def _deliver(environment: Mapping[str, str]) -> ExitCode:
    """Start the requirement and follow it, with the commands that users type.

    On interruption it cancels the requirement, since agents outlive their worker.
    """
    options = ("--title", TITLE, "--description", DESCRIPTION, "--pipeline", PIPELINE, "--wait")
    try:
        return await starter_command(environment, "start", NUMBER, *options)
    except asyncio.CancelledError:
        await starter_command(environment, "cancel", NUMBER)
        raise


async def starter_command(environment: Mapping[str, str], *arguments: str) -> ExitCode:
    """Run a command with its stdout on stderr: the result is read from the database."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "starter.py"),
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        return ExitCode(await process.wait())
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


@dataclass(frozen=True)
class _Records:
    """The rows of a requirement and of its fixes, with all failures and runs."""

    view: RequirementView
    performance: PerformanceView
    failures: tuple[FailureView, ...]
    notes: tuple[NoteView, ...]
    runs: tuple[RunView, ...]


async def _read_records(reader: SdlcReader, number: str) -> _Records:
    """Read them after the requirement has ended, or a human is asked."""
    view = await reader.requirement(number)
    numbers = (number, *(fix.number for fix in view.fixes))
    return _Records(
        view,
        await reader.performance(number),
        await reader.failures(number),
        await reader.notes(number),
        tuple([run for each in numbers for run in await reader.runs(each)]),
    )


@dataclass(frozen=True)
class _Demonstrated:
    """What a demo leaves to look at."""

    records: _Records
    web_ui: str
    project: Path
    store: Path
    """Our own repository of the project."""
    shell: Mapping[str, str]
    survived: Survived | None
    """What came of the kills, if there were any."""
    is_kept: bool
    """Whether servers and directories are still there when this is read."""

    @property
    def view(self) -> RequirementView:
        """The requirement, as `status` reads it."""
        return self.records.view

    @property
    def branch(self) -> str:
        """The integration branch, which is kept."""
        return integration_branch(self.view.number)


async def _outcome(
    directory: DemoDirectory,
    addresses: StackAddresses,
    survived: Survived | None,
    *,
    is_kept: bool,
) -> _Demonstrated:
    reader = create_reader(addresses.database_url)
    try:
        records = await _read_records(reader, NUMBER)
    finally:
        await reader.close()
    store = store_path(directory.state, directory.project)
    web_ui = addresses.web_ui or ""
    return _Demonstrated(
        records, web_ui, directory.project, store, directory.shell, survived, is_kept
    )


async def _keep(directory: DemoDirectory, addresses: StackAddresses) -> None:
    settings = "\n".join(f"  export {name}={value}" for name, value in directory.variables.items())
    output.say(
        f"\nWeb UI: {addresses.web_ui}\nProject: {directory.project}\n"
        f"From another terminal:\n{settings}\n"
        f"  python starter.py status {NUMBER}\nCtrl-C ends it."
    )
    # the wait is meant to end by a signal
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _document(done: _Demonstrated) -> Mapping[str, object]:
    """The JSON of a demo."""
    performance = done.records.performance
    return {
        "req_number": done.view.number,
        "state": done.view.state,
        "pipeline": done.view.pipeline,
        "mode": done.view.mode,
        "sequential_seconds": performance.sequential_seconds,
        "parallel_seconds": performance.parallel_seconds,
        "percentage_saved": performance.percentage_saved,
        "stages": [
            {
                "stage": stage.stage,
                "agent": stage.agent,
                "state": stage.state,
                "started_at": stage.started_at,
                "ended_at": stage.ended_at,
            }
            for stage in done.view.stages
        ],
        "fixes": [fix_document(fix) for fix in done.view.fixes],
        **({"survived": _survived(done.survived)} if done.survived else {}),
        "web_ui": done.web_ui if done.is_kept else None,
        "project": str(done.project) if done.is_kept else None,
        "branch": done.branch,
        "store": str(done.store) if done.is_kept else None,
    }


def _survived(survived: Survived) -> Mapping[str, object]:
    return {**asdict(survived), "line": survived.line}


def _show(done: _Demonstrated) -> None:
    """Print who worked when, the commits, failures and fixes, and what parallel work saved."""
    console = output.data()
    console.print(_intervals(done))
    output.write(_commits(done))
    if done.records.failures:
        console.print(Group(*_repairs(done)), crop=False)
    console.print(Panel(_figures(done), expand=False))


def _repairs(done: _Demonstrated) -> Iterator[RenderableType]:
    """All failures, and what repaired them."""
    yield "\nWhat was red:"
    yield from (failure_text(failure) for failure in done.records.failures)
    yield from (
        f"{', '.join(note.stages[:2])} again: {output.plain(output.first_line(note.why))}"
        for note in done.records.notes
        if note.kind == REWORK
    )
    if done.view.fixes:
        yield fixes_part(done.view.fixes)
    if done.view.waiting_for:
        yield report(done.view)


def _figures(done: _Demonstrated) -> str:
    figures, view = done.records.performance, done.view
    is_delivered = view.state is RequirementState.DELIVERED
    branch = f"Delivered to {view.target_branch}"
    if not is_delivered:
        branch = f"Its work is on {done.branch}"
        branch += f" in {done.store}" if done.is_kept else ": --keep leaves it to be looked at"
    survived = f"\n{sentence(done.survived)}" if done.survived else ""
    return (
        f"{view.number} is {view.state}\n"
        f"{figures.parallel_seconds:.1f} s of work instead of {figures.sequential_seconds:.1f} s:"
        f" {figures.percentage_saved}% saved\n"
        f"{branch}{survived}"
    )


def _intervals(done: _Demonstrated) -> Table:
    spans = sorted(
        (run.started_at.timestamp(), run.ended_at.timestamp(), _worker(run))
        for run in done.records.runs
        if run.started_at and run.ended_at
    )
    begin = min((start for start, _, _ in spans), default=0.0)
    total = max((end for _, end, _ in spans), default=0.0) - begin
    who = "who worked when"
    rows = output.table(who, "", "seconds", numbers=("seconds",), fold=(who,))
    for start, end, worker in spans:
        line = output.bar(start - begin, end - begin, total)
        rows.add_row(worker, line, f"{end - start:.2f}")
    return rows


def _worker(run: RunView) -> str:
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return f"{run.stage} ({run.agent}{attempt})"


def _commits(done: _Demonstrated) -> str:
    is_delivered = done.view.state is RequirementState.DELIVERED
    branch = done.view.target_branch if is_delivered else done.branch
    place = done.project if is_delivered else done.store
    log = subprocess.run(
        ("git", "log", "--oneline", "--graph", "--no-color", str(branch)),
        cwd=place,
        env=done.shell,
        capture_output=True,
        text=True,
        check=True,
    )
    return f"Commits of {branch}:\n{output.plain(log.stdout.rstrip())}"
