"""What a user of a stack does with it: a workflow, a row, a message, and finding them again."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
import psutil
import psycopg
from nats.aio.client import Client as NatsClient
from temporalio.client import Client

from adapters.local_stack import StackAddresses
from tests.eventually import PATIENCE_SECONDS
from tests.ports import own_port

_STREAM, _SUBJECT, _MESSAGE = "traces", "traces.one", b"kept"


async def leave_traces(stack: StackAddresses, name: str) -> None:
    """Start a workflow that nobody runs, insert a row, publish a message."""
    temporal = await Client.connect(stack.temporal_address)
    await temporal.start_workflow("Trace", id=name, task_queue="nobody")
    async with await connect_database(stack) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS trace (name text PRIMARY KEY)")
        await database.execute("INSERT INTO trace VALUES (%s)", (name,))
    async with connect_nats(stack) as events:
        await events.jetstream().add_stream(name=_STREAM, subjects=[_SUBJECT])
        await events.jetstream().publish(_SUBJECT, _MESSAGE)


async def find_traces(stack: StackAddresses, name: str) -> None:
    """Fail unless everything that `leave_traces` left is there."""
    temporal = await Client.connect(stack.temporal_address)
    description = await temporal.get_workflow_handle(name).describe()
    assert description.workflow_type == "Trace"
    async with await connect_database(stack) as database:
        rows = await database.execute("SELECT name FROM trace WHERE name = %s", (name,))
        assert await rows.fetchone() == (name,)
    async with connect_nats(stack) as events:
        message = await events.jetstream().get_last_msg(_STREAM, _SUBJECT)
        assert message.data == _MESSAGE


async def connect_database(stack: StackAddresses) -> psycopg.AsyncConnection:
    """A connection that commits each statement."""
    address = stack.database_url.replace("postgresql+psycopg", "postgresql")
    return await psycopg.AsyncConnection.connect(address, autocommit=True)


@asynccontextmanager
async def connect_nats(stack: StackAddresses) -> AsyncIterator[NatsClient]:
    """A signed-in client, closed at the end."""
    assert stack.nats_user
    assert stack.nats_password
    client = await nats.connect(
        stack.nats_url, user=stack.nats_user, password=stack.nats_password, allow_reconnect=False
    )
    try:
        yield client
    finally:
        await client.close()


def processes_naming(text: str) -> list[psutil.Process]:
    """Living processes, this one excepted, with that text in their command line.

    One that was forked a moment ago and still has its parent's words is not itself yet: not listed.
    """
    found: dict[tuple[int, tuple[str, ...]], tuple[int, psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            words = tuple(process.cmdline())
            if any(text in word for word in words) and process.pid != os.getpid():
                found[process.pid, words] = process.ppid(), process
    return [
        process for (_, words), (parent, process) in found.items() if (parent, words) not in found
    ]


async def until(claim: Callable[[], bool]) -> None:
    """Wait for the claim to hold, as long as our patience."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not claim():  # noqa: ASYNC110 -- other processes set no Event of ours
            await asyncio.sleep(0.02)


def keep_own_ports(home: Path) -> None:
    """Let a stack find ports as if kept from its last time, which nobody else is after.

    The usual ones are every stack's first wish, and the system gives away those above 32767: a
    stack of another test could take either while this one's server is down.
    """
    names = ("temporal", "web_ui", "postgres", "nats")
    ports = {name: own_port() for name in names}
    home.mkdir(parents=True, exist_ok=True)
    nobody = {"pid": 0, "create_time": 0.0, "boot_id": ""}
    (home / "stack.json").write_text(json.dumps({"settings": {}, "ports": ports, **nobody}))
