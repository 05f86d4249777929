"""Running asynchronous work under signals: one asks for the end, more change nothing."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; the first signal cancels the work, whose clean-up is waited for.

    Raises: KeyboardInterrupt after a signal.
    """
    return asyncio.run(_under_signals(work))


async def _under_signals(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    interrupted = asyncio.Event()

    def interrupt() -> None:
        if not interrupted.is_set():
            interrupted.set()
            task.cancel()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupted.is_set():
            raise KeyboardInterrupt from None
        raise
