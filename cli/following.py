"""Following requirements until they end: change by change, or live on the whole terminal.

One look in a while at what may have changed, and reads of what has.
"""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic

from rich.live import Live

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView
from cli import output
from cli.board import Board, Watched
from cli.estimates import Durations, Rest, agents_of
from cli.run_work import RunWork
from cli.status import lasted
from cli.verdict import needs_human
from pipeline.errors import DependencyUnavailable
from pipeline.model import Pipeline, RequirementState
from settings import Settings

Show = Callable[[RequirementView], None]
Say = Callable[[str], None]

_POLL_SECONDS = 0.5
_WHOLE_SECONDS = 5.0
"""What changes outside its own rows, its place in a queue for instance, is read that often."""
_NEW_SECONDS = 2.0
_OUTAGE_SECONDS = 60.0
"""A restart of the database must not end a watch of hours."""
_HOST_SECONDS = 10.0
"""A running worker takes a requirement at once, unless its host is full."""


async def follow(
    reader: SdlcReader, numbers: Sequence[str], show: Show, say: Say, *, with_new: bool = False
) -> Mapping[str, RequirementView]:
    """Show every change until each has ended, or only a human can continue it; the last views.

    `with_new` follows also what is started meanwhile. All are looked at with one statement; only
    those are read that may have changed.

    Raises: UnknownRequirement; DependencyUnavailable if the first read fails, or if reads fail for
        a minute.
    """
    following = _Following(reader, numbers, show, say)
    last_seen, news_at = float("-inf"), monotonic()
    while True:
        try:
            if with_new and monotonic() - news_at > _NEW_SECONDS:
                following.add(await reader.under_way())
                news_at = monotonic()
            await following.look()
        except DependencyUnavailable:
            if monotonic() - last_seen > _OUTAGE_SECONDS:
                raise
        else:
            last_seen = monotonic()
            if following.is_over:
                return following.views
        await asyncio.sleep(_POLL_SECONDS)


class _Following:
    """What has been seen of each requirement."""

    def __init__(self, reader: SdlcReader, numbers: Sequence[str], show: Show, say: Say) -> None:
        self.views: dict[str, RequirementView] = {}
        self._reader = reader
        self._show = show
        self._say = say
        self._numbers = list(numbers)
        self._seen: dict[str, tuple[object, float]] = {}
        """By number: the version that was read, and when."""
        self._warned: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether none of them continues by itself."""
        return all(
            number in self.views
            and (self.views[number].state.is_final or needs_human(self.views[number]))
            for number in self._numbers
        )

    def add(self, numbers: Sequence[str]) -> None:
        """Follow those as well."""
        self._numbers += [number for number in numbers if number not in self._numbers]

    async def look(self) -> None:
        """Read and show those that may have changed. Raises: UnknownRequirement."""
        open_ones = [
            number
            for number in self._numbers
            if number not in self.views or not self.views[number].state.is_final
        ]
        versions = await self._reader.versions(open_ones) if open_ones else {}
        for number in open_ones:
            version, now = versions.get(number), monotonic()
            seen, at = self._seen.get(number, (None, float("-inf")))
            if version == seen and now - at < _WHOLE_SECONDS:
                continue
            view = await self._reader.requirement(number)
            self._seen[number] = (version, now)
            self.views[number] = view
            self._show(view)
            self._warn(view)

    def _warn(self, view: RequirementView) -> None:
        waits = view.state is RequirementState.ACCEPTED
        if waits and view.number not in self._warned and _waited(view) > _HOST_SECONDS:
            self._say(
                f"{view.number}: no host has taken it. Is a worker running?"
                " python starter.py doctor"
            )
            self._warned.add(view.number)


def _waited(view: RequirementView) -> float:
    return lasted(view.updated_at, datetime.now(UTC))


_REFRESH_SECONDS = 1.0
"""Its figures are seconds."""
_QUIT = b"q"
_RECKONED = timedelta(seconds=30)
"""When a requirement is likely to end is reckoned again so often, and whenever it has changed."""


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
        self._plans: dict[str, Pipeline] = {}
        self._durations = Durations(agents_of(settings))
        self._rests: dict[str, tuple[RequirementView, Rest | None]] = {}
        """By number, with the view that it was reckoned from."""
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
                Watched(view, self._minutes(number), self._work.of(view), self._rest(view))
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
        with suppress(DependencyUnavailable):  # an outage does not end a watch
            await self._durations.read(self._reader)
        for number in self._views.keys() - self._plans.keys():
            self._plans[number] = (await self._reader.order(number)).pipeline

    def _minutes(self, number: str) -> Mapping[str, float]:
        plan = self._plans.get(number)
        return {stage.name: stage.minutes for stage in plan.stages} if plan else {}

    def _rest(self, view: RequirementView) -> Rest | None:
        seen, rest = self._rests.get(view.number, (None, None))
        now = datetime.now(UTC)
        is_old = rest is not None and now - rest.at > _RECKONED
        if (is_old or seen != view) and view.number in self._plans:
            rest = self._durations.rest(view, self._plans[view.number], now)
            self._rests[view.number] = (view, rest)
        return rest


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
