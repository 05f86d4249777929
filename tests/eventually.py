"""Waiting for a condition, never for a length of time; and measuring what is promised in time."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Self

PATIENCE_SECONDS = 240.0
"""Only ends what hangs: no test may fail because its machine is slow. What is promised within a
time is measured where that is tested."""
_POLL_SECONDS = 0.03
_SAMPLE_SECONDS = 0.02


async def eventually(condition: Callable[[], bool], what: str) -> float:
    """Wait until the condition holds; the moment, by the monotonic clock."""

    async def ask() -> bool:
        return condition()

    return await eventually_async(ask, what)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """The same where no event loop runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(_POLL_SECONDS)


async def eventually_async(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """The same for a condition that has to be awaited."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic()


class Stopwatch:
    """How long its block takes, less the time for which the machine kept this process waiting.

    A time that the product promises is measured with it: how busy the machine is must not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._kept_waiting = 0.0
        self._is_over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._sampler.start()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        taken = time.monotonic() - self._began
        self._is_over.set()
        self._sampler.join()
        self.seconds = taken - self._kept_waiting

    def _sample(self) -> None:
        """A wait that lasts longer than it was to last shows that we were not let run."""
        before, is_over = time.monotonic(), False
        while not is_over:  # the block may end in the very wait that was too long
            is_over = self._is_over.wait(_SAMPLE_SECONDS)
            now = time.monotonic()
            self._kept_waiting += max(0.0, now - before - _SAMPLE_SECONDS)
            before = now
