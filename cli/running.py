"""How every command runs: as it is called, under settings and signals, to an exit code.

Exit codes are a contract, on which scripts depend (design, section 5).
"""

import asyncio
import re
import shlex
import signal
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pipeline.errors import (
    AlreadyStarted,
    DependencyUnavailable,
    PipelineError,
    RefusedInput,
    UnknownRequirement,
)
from pipeline.model import RequirementState

if TYPE_CHECKING:
    from settings import Settings

T = TypeVar("T")

Number = Annotated[str, typer.Argument(help="The requirement's number.")]
StageName = Annotated[str, typer.Argument(help="The stage's name, or its agent's.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]

STARTER = Path(__file__).parent.parent / "starter.py"

_COMMAND = re.compile(r"(?<![\w./-])(?:python )?(starter|worker)\.py\b")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def as_called(text: str) -> str:
    """The text with our commands as they can be typed in the current directory."""
    with suppress(FileNotFoundError):  # it is gone
        if Path.cwd() == STARTER.parent:
            return text
    return _COMMAND.sub(
        lambda found: f"python {shlex.quote(str(STARTER.with_name(f'{found[1]}.py')))}", text
    )


class ExitCode(IntEnum):
    """How a command ended."""

    DELIVERED = 0
    NOT_DELIVERED = 1
    REFUSED = 2
    NOT_FOUND = 3
    NEEDS_HUMAN = 4
    CANCELLED = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


OK = ExitCode.DELIVERED
"""Success of a command that delivers nothing."""


def exit_code_of_error(error: PipelineError) -> ExitCode:
    """The code of an error, by its type."""
    match error:
        case RefusedInput() | AlreadyStarted():
            return ExitCode.REFUSED
        case UnknownRequirement():
            return ExitCode.NOT_FOUND
        case DependencyUnavailable():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.NOT_DELIVERED


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


def load_settings() -> "Settings":
    """The settings of this environment. Raises: RefusedInput naming each bad one."""
    import settings  # --help needs none

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
