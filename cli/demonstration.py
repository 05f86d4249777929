"""`demo`: the main job on embedded servers, in a directory of its own, whatever the shell holds."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from adapters.git.store import store_path
from adapters.local_stack import Child, LocalStack, StackAddresses
from adapters.local_stack.child import log_tail
from adapters.sdlc_reader import create_reader
from cli import output
from cli.demo_house import DemoHouse
from cli.demo_result import Demonstrated, document, read_records, show
from cli.exits import ENDS, ExitCode
from cli.running import run
from cli.stack import running, worker_process
from pipeline.errors import ServerNotStarted
from settings import HERE

EXAMPLES = {
    "demo": """
Examples:

  python starter.py demo

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


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave servers, worker and project up until Ctrl-C.")
    ] = False,
    break_build: Annotated[
        bool, typer.Option("--break-build", help="A build breaks, and its owner repairs it.")
    ] = False,
    conflict: Annotated[
        bool, typer.Option("--conflict", help="Two agents change one line; the later resolves it.")
    ] = False,
    request_changes: Annotated[
        bool, typer.Option("--request-changes", help="A review sends the research back once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Take one requirement through the team, on servers of its own.

    Agents are real processes. Everything happens in a temporary directory and is gone afterwards.
    What goes wrong can be combined; it is repaired, and the requirement is delivered.
    """
    mishaps = {
        "break-build": break_build,
        "conflict": conflict,
        "request-changes": request_changes,
    }
    wrong = tuple(name for name, is_wanted in mishaps.items() if is_wanted)
    house = DemoHouse(Path(tempfile.mkdtemp(prefix="agog-demo-")))
    try:
        code = run(_demo(house, wrong, keep=keep, as_json=as_json))
    finally:
        if keep:
            output.say(f"Kept: {house.root}")
        else:
            shutil.rmtree(house.root)
    raise typer.Exit(code)


async def _demo(house: DemoHouse, mishaps: Sequence[str], *, keep: bool, as_json: bool) -> ExitCode:
    output.say("Starting Temporal, NATS, PostgreSQL and a worker …")
    await asyncio.to_thread(house.furnish, mishaps)
    # The usual ports are left to the user's own stack, and nothing of the shell is read.
    async with running(LocalStack(house.state, usual_ports=False)) as addresses:
        environment = house.environment(addresses)
        async with _worker(house, environment) as worker:
            code = await _beside(worker, _deliver(environment))
            if code not in ENDS:
                return code  # the command has said why
            done = await _outcome(house, addresses)
            if as_json:
                output.write_json(document(done))
            else:
                show(done)
            if keep:
                await _keep(house, addresses)
            else:
                output.say("`starter.py demo --keep` leaves it up, with its Web UI.")
            return code


@asynccontextmanager
async def _worker(house: DemoHouse, environment: Mapping[str, str]) -> AsyncIterator[Child]:
    worker = Child(worker_process(environment), house.state)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def _beside(worker: Child, work: Coroutine[None, None, T]) -> T:
    """Do the work, which would wait for ever if the worker dies. Raises: ServerNotStarted."""
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
    """Start the requirement and follow it, by the commands that users type.

    Interrupted, it cancels the requirement: its agents would outlive the worker.
    """
    options = ("--title", TITLE, "--description", DESCRIPTION, "--pipeline", PIPELINE, "--wait")
    try:
        return await _starter(environment, "start", NUMBER, *options)
    except asyncio.CancelledError:
        await _starter(environment, "cancel", NUMBER)
        raise


async def _starter(environment: Mapping[str, str], *arguments: str) -> ExitCode:
    """Run a command of ours; what it says goes to stderr, its result is read elsewhere."""
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


async def _outcome(house: DemoHouse, addresses: StackAddresses) -> Demonstrated:
    reader = create_reader(addresses.database_url)
    try:
        records = await read_records(reader, NUMBER)
    finally:
        await reader.close()
    store = store_path(house.state, house.project)
    return Demonstrated(records, addresses.web_ui or "", house.project, store, house.shell)


async def _keep(house: DemoHouse, addresses: StackAddresses) -> None:
    settings = "\n".join(f"  export {name}={value}" for name, value in house.variables.items())
    output.say(
        f"\nWeb UI: {addresses.web_ui}\nProject: {house.project}\n"
        f"From another terminal:\n{settings}\n"
        f"  python starter.py status {NUMBER}\nCtrl-C ends it."
    )
    # the signal that ends the waiting is how it is meant to end
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
