"""Child processes that we start and wait for, cleaned up even if the caller is cancelled."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_CHUNK = 64 * 1024
_POLL_SECONDS = 0.01


def await_children_by_descriptor() -> None:
    """Let the running loop await children by descriptors of the kernel, as from Python 3.12 on.

    Before that it starts a thread for each, which takes a busy interpreter a millisecond.
    """
    if sys.version_info >= (3, 12) or not hasattr(os, "pidfd_open"):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return  # a kernel before Linux 5.3
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)


@asynccontextmanager
async def running(
    start: Coroutine[Any, Any, Process], end: Callable[[Process], Coroutine[Any, Any, None]]
) -> AsyncIterator[Process]:
    """Start a process and yield it; on leaving the block, run `end` on it and wait for that.

    This holds even if the caller is cancelled while the process starts. asyncio's own start would
    then wait until the pipes are closed, and a grandchild may never close them (Python 3.11.7).

    Raises: OSError if the process cannot be started.
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
    """Wait until the process itself exits, and discard its output.

    `Process.wait` also waits until its pipes are closed (Python 3.11.7, asyncio's
    base_subprocess.py). If nobody reads them, or a grandchild holds them, it never returns.
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
        return  # the caller gets that error
    process = starting.result()
    try:
        await end(process)
    finally:
        # A grandchild may still hold the pipes, and asyncio has no public way to close our ends.
        process._transport.close()  # type: ignore[attr-defined]


async def _drop(stream: asyncio.StreamReader) -> None:
    while await stream.read(_CHUNK):
        pass
