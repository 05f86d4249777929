"""`pause`, `unpause`, `drain`: keep work from starting, and let it continue."""

from typing import Annotated

import typer

from adapters.temporal.messages import TemporalNotifier
from cli import output
from cli.connections import Services, notify_paused, services
from cli.inputs import one_or_all, who
from cli.running import OK, ExitCode, load_settings, run
from cli.watch import detach, watch_all
from pipeline.pauses import ALL, Pause, PauseKind
from settings import Settings

EXAMPLES = {
    "pause": """
Examples:

  python starter.py pause REQ-101

  python starter.py pause --all --now
""",
    "unpause": """
Examples:

  python starter.py unpause REQ-101

  python starter.py unpause --all
""",
    "drain": """
Examples:

  python starter.py drain

  python starter.py drain --wait
""",
}

Number = Annotated[str | None, typer.Argument(help="The requirement's number.")]


def pause(
    req: Number = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything, what is started later included.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Suspend running agents as well; deadlines pause.")
    ] = False,
) -> None:
    """Start nothing new of one, or of all, until `unpause`.

    No host takes it, and no stage, build or delivery of it or its fixes starts. Running agents and
    builds go on to their end; so does a delivery that moves its branch. P0s are paused as well.
    """
    scope = one_or_all(req, everything=everything)
    kind = PauseKind.SUSPEND if now else PauseKind.PAUSE
    made = run(_paused(load_settings(), scope, kind))
    goes_on = "running agents go on to their end"
    if made.kind is PauseKind.SUSPEND:
        goes_on = "its running agents are suspended"
    what = "Everything is" if made.is_of_all else f"{scope} is"
    output.hint(f"{what} paused: nothing new starts, {goes_on}. Continue with: {made.end}")


def unpause(
    req: Number = None,
    everything: Annotated[
        bool, typer.Option("--all", help="End a pause of everything, or a drain.")
    ] = False,
) -> None:
    """Let one, or all, continue.

    Suspended agents resume where they were.
    """
    scope = one_or_all(req, everything=everything)
    left = run(_unpaused(load_settings(), scope))
    what = "Everything" if scope == ALL else scope
    output.write(f"{what} continues.")
    for each in left:
        if each.is_of_all:
            output.hint(f"But: {each.reason}")
        elif scope == ALL:
            output.hint(f"Still paused by itself: {each.scope}. It continues with: {each.end}")


def drain(
    wait: Annotated[
        bool, typer.Option("--wait", help="Until what is under way has ended, or asks a human.")
    ] = False,
) -> None:
    """Finish what is under way, take nothing new.

    Requirements that a host has taken continue to their end; others wait at their opening, those
    that are started later too. `unpause --all` ends it. Before maintenance: `drain --wait`, `down`.
    """
    numbers: tuple[str, ...] = ()
    try:
        code, numbers = run(_drained(load_settings(), wait=wait))
    except KeyboardInterrupt:
        code = detach(numbers) if wait else ExitCode.INTERRUPTED
    raise typer.Exit(code)


async def _paused(settings: Settings, scope: str, kind: PauseKind) -> Pause:
    async with services(settings) as connected:
        return await _change(connected, scope, kind)


async def _change(connected: Services, scope: str, kind: PauseKind) -> Pause:
    """Pause, and tell whom it concerns. Raises: RefusedInput, UnknownRequirement."""
    try:
        return await connected.store.pause(scope, kind, who())
    finally:  # even if refused: an earlier call may have been interrupted before this
        await _tell(connected)


async def _unpaused(settings: Settings, scope: str) -> tuple[Pause, ...]:
    """End the pause; returns those that are left. Raises: RefusedInput, UnknownRequirement."""
    async with services(settings) as connected:
        try:
            await connected.store.unpause(scope, who())
        finally:
            await _tell(connected)
        return await connected.reader.pauses()


async def _tell(connected: Services) -> None:
    """Let held requirements look again, and suspend agents that must be."""
    await notify_paused(connected)
    await TemporalNotifier(connected.temporal).pre_empt(await connected.store.to_pre_empt())


async def _drained(settings: Settings, *, wait: bool) -> tuple[ExitCode, tuple[str, ...]]:
    async with services(settings) as connected:
        made = await _change(connected, ALL, PauseKind.DRAIN)
        taken = [
            each.number
            for each in await connected.reader.requirements()
            if each.host and not each.parent and not each.state.is_final
        ]
        for pause in await connected.reader.pauses():
            if pause.scope in taken:
                taken.remove(pause.scope)
                output.hint(f"{pause.scope} stays paused. It continues with: {pause.end}")
        goes_on = "continues to its end" if len(taken) == 1 else "continue to their end"
        going = f"{', '.join(taken)} {goes_on}" if taken else "nothing is under way"
        output.hint(f"Nothing new is taken; {going}. Take work again with: {made.end}")
        if not (wait and taken):
            return OK, tuple(taken)
        return await watch_all(settings, connected.reader, tuple(taken)), tuple(taken)
