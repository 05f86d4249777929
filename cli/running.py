"""How every command runs: it reads the settings, obeys signals, and ends with an exit code."""

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import settings
from cli.exits import ExitCode
from pipeline.errors import RefusedInput
from pipeline.model import RequirementState

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


ENDS = (
    ExitCode.NOT_DELIVERED,
    ExitCode.NEEDS_HUMAN,
    ExitCode.CANCELLED,
    ExitCode.DELIVERED,
)
"""How a followed requirement can end, the worst first; several requirements exit with the worst."""

_STATES = {
    RequirementState.DELIVERED: ExitCode.DELIVERED,
    RequirementState.FAILED: ExitCode.NOT_DELIVERED,
    RequirementState.CANCELLED: ExitCode.CANCELLED,
    RequirementState.BLOCKED: ExitCode.NEEDS_HUMAN,
    RequirementState.HELD: ExitCode.NEEDS_HUMAN,
}


def exit_code_of_state(state: RequirementState) -> ExitCode:
    """The code of a final state, or of one in which only a human can continue it.

    Raises: KeyError for any other.
    """
    return _STATES[state]


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The first of the codes in the order of `ENDS`."""
    return min(codes, key=ENDS.index)


def load_settings() -> settings.Settings:
    """The settings of this environment. Raises: RefusedInput naming each bad one."""
    try:
        return settings.load_settings()
    except settings.BadSettings as bad:
        raise RefusedInput(str(bad)) from bad


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work to its end. The first signal cancels it and waits for its clean-up.

    Further signals change nothing. Raises: KeyboardInterrupt after a signal.
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
