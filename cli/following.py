"""Following requirements: one look in a while at what may have changed, and reads of what has."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView
from cli.status import lasted
from cli.verdict import needs_human
from pipeline.errors import DependencyUnavailable
from pipeline.model import RequirementState

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
