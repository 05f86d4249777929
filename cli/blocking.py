"""`block` and `unblock`: a requirement waits at its next boundary for another one's delivery."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from adapters.sdlc_store import PostgresSdlcStore
from cli import output
from cli.connections import move_held, services
from cli.running import load_settings, run
from pipeline.numbers import check_number

EXAMPLES = {
    "block": """
Example:

  python starter.py block REQ-102 --by REQ-101
""",
    "unblock": """
Example:

  python starter.py unblock REQ-102 --by REQ-101
""",
}

Number = Annotated[str, typer.Argument(help="The requirement's number.")]
By = Annotated[str, typer.Option("--by", help="The number that it waits for.")]


def block(req: Number, by: By) -> None:
    """Let a requirement wait until another one is delivered.

    It waits at its next boundary: its opening, a stage, a build or the delivery.
    """
    run(_move(req, by, PostgresSdlcStore.add_blocker))
    output.write(f"{req} waits for {by}.")


def unblock(req: Number, by: By) -> None:
    """Let a requirement go on without waiting for that one."""
    run(_move(req, by, PostgresSdlcStore.remove_blocker))
    output.write(f"{req} does not wait for {by} any more.")


async def _move(
    number: str, by: str, write: Callable[[PostgresSdlcStore, str, str], Awaitable[None]]
) -> None:
    check_number(number)
    check_number(by)
    async with services(load_settings()) as connected:
        try:
            await write(connected.store, number, by)
        finally:  # also if it is refused: an earlier call may have been cut off before this
            await move_held(connected)
