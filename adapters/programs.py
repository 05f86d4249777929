"""Programs that run for us: started, and seen off whatever happens to who waits for them."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_CHUNK = 64 * 1024
_POLL_SECONDS = 0.01


@asynccontextmanager
async def running(
    start: Coroutine[Any, Any, Process], end: Callable[[Process], Coroutine[Any, Any, None]]
) -> AsyncIterator[Process]:
    """The process that `start` makes; `end` sees it off when the block is left, and is waited for.

    Also where the caller is cancelled while it starts: asyncio's own start then waits for the end
    of the pipes, which a child of the program may never close (Python 3.11.7).

    Raises: OSError if it cannot be started.
    """
    starting = asyncio.create_task(start)
    try:
        yield await asyncio.shield(starting)
    finally:
        ending = asyncio.create_task(_see_off(starting, end))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})
            raise


async def exited(process: Process) -> None:
    """Wait for the end of the process alone, and drop what it says.

    `Process.wait` waits for its pipes too (Python 3.11.7, asyncio/base_subprocess.py): where nobody
    reads them any more, or a child of it holds them, that never ends.
    """
    streams = (stream for stream in (process.stdout, process.stderr) if stream is not None)
    dropping = [asyncio.create_task(_drop(stream)) for stream in streams]
    try:
        while process.returncode is None:  # noqa: ASYNC110 -- the kernel sets no Event
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        for task in dropping:
            task.cancel()


async def _see_off(
    starting: asyncio.Task[Process], end: Callable[[Process], Coroutine[Any, Any, None]]
) -> None:
    await asyncio.wait({starting})
    if starting.cancelled() or starting.exception():
        return  # whoever waited for the start has been told
    process = starting.result()
    try:
        await end(process)
    finally:
        # There is no public way to close what a child of it may hold open.
        process._transport.close()  # type: ignore[attr-defined]


async def _drop(stream: asyncio.StreamReader) -> None:
    while await stream.read(_CHUNK):
        pass
