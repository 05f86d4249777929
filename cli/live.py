"""The live board: it follows requirements on the whole terminal until they end, or `q` is typed."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from rich.live import Live

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView
from cli import output
from cli.board import Board, Watched
from cli.following import follow
from cli.run_work import RunWork
from settings import Settings

_REFRESH_SECONDS = 1.0
"""Its figures are seconds."""
_QUIT = b"q"


async def follow_live(
    settings: Settings, reader: SdlcReader, numbers: Sequence[str], *, with_new: bool = False
) -> Mapping[str, RequirementView] | None:
    """Follow them on a board; None if the user has left it with `q`."""
    screen = _Screen(settings, reader)
    leaving = asyncio.Event()
    console = output.screen()
    with _keys(leaving) as has_keys, Live(console=console, screen=True, auto_refresh=False) as live:
        screen.has_keys = has_keys
        following = asyncio.create_task(
            follow(reader, numbers, screen.show, screen.say, with_new=with_new)
        )
        showing = asyncio.create_task(screen.refresh(live))
        left = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({following, showing, left}, return_when=asyncio.FIRST_COMPLETED)
            if showing.done():
                showing.result()
            return await following if not left.done() or following.done() else None
        finally:
            for task in (following, showing, left):
                task.cancel()
            await asyncio.gather(following, showing, left, return_exceptions=True)


class _Screen:
    """What the board shows: the latest view of each requirement, and what is known beside it."""

    has_keys = False

    def __init__(self, settings: Settings, reader: SdlcReader) -> None:
        self._work = RunWork(settings.home, settings.host)
        self._reader = reader
        self._views: dict[str, RequirementView] = {}
        self._minutes: dict[str, Mapping[str, float]] = {}
        self._notes: dict[str, None] = {}
        self._changed = asyncio.Event()

    def show(self, view: RequirementView) -> None:
        """Take a new view."""
        self._views[view.number] = view
        self._changed.set()

    def say(self, text: str) -> None:
        """Add a line at the end of the board."""
        self._notes[text] = None
        self._changed.set()

    async def refresh(self, live: Live) -> None:
        """Draw the board at every change, and every second while something runs."""
        while True:
            await self._read_plans()
            watched = [
                Watched(view, self._minutes.get(number, {}), self._work.of(view))
                for number, view in self._views.items()
            ]
            notes = (*self._notes, *(("q ends watching; nothing is cancelled",) * self.has_keys))
            live.update(Board(watched, datetime.now(UTC), *notes), refresh=True)
            self._changed.clear()
            # not `wait_for`: it swallows a cancellation that comes together with the event
            with suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS):
                    await self._changed.wait()

    async def _read_plans(self) -> None:
        """A plan never changes: it is read once."""
        for number in self._views.keys() - self._minutes.keys():
            order = await self._reader.order(number)
            self._minutes[number] = {s.name: s.minutes for s in order.pipeline.stages}


def _is_ours(terminal: int) -> bool:
    """Whether we are in the foreground there: elsewhere, changing a terminal would stop us."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it is not the terminal of our session
        return False


@contextmanager
def _keys(leaving: asyncio.Event) -> Iterator[bool]:
    """Set the event once `q` is typed; False if no terminal of ours can type it."""
    if not (sys.stdin.isatty() and _is_ours(terminal := sys.stdin.fileno())):
        yield False
        return
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(terminal)

    def typed() -> None:
        keys = os.read(terminal, 64)
        if _QUIT in keys.lower():
            leaving.set()
        if not keys:  # the terminal is gone
            loop.remove_reader(terminal)

    tty.setcbreak(terminal)
    loop.add_reader(terminal, typed)
    try:
        yield True
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
