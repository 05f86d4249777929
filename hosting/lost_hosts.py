"""This host tells that it lives, hears the others, and serves the queues of those that are lost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.worker import Worker

from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import DependencyUnavailable, GitFailed, ProjectRefused
from pipeline.lost_hosts import Silence
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

_BEATS = 10
"""In the time after which a host is lost: a few may be late."""
_LONGEST_SECONDS = 5.0
_SHARE_SECONDS = 30.0
"""How often a push is tried again that has failed."""

Serve = Callable[[str, str], Sequence[Worker]]
"""Workers for the queues of a lost host, by its name and its last beat."""


Clean = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Served:
    """A lost host whose queues are served until it is `over`; `beat` is its last."""

    beat: str
    over: asyncio.Event
    task: asyncio.Task[None]


class LostHosts:
    """Watches the other hosts of the installation.

    `moved` names what others continue since this host was lost; it is kept up to date.
    """

    def __init__(self, store: PostgresSdlcStore, host: str, lost_after: timedelta | None) -> None:
        self.moved: dict[str, str] = {}
        self._store = store
        self._host = host
        self._silence = Silence(lost_after) if lost_after else None
        self._lost: Mapping[str, str] = {}
        self._beats: asyncio.Task[None] | None = None
        self._has_beaten = asyncio.Event()
        self._served: dict[str, Served] = {}
        self._has_news = asyncio.Event()

    async def beat(self) -> Mapping[str, str]:
        """Tell that this host lives; the lost ones, each with its last beat.

        Raises: DependencyUnavailable; then nobody is lost.
        """
        try:
            heard = await self._store.beat(self._host, may_be_lost=self._silence is not None)
        except DependencyUnavailable:
            if self._silence:
                self._silence.forget()
            raise
        for number in heard.moved.keys() - self.moved.keys():
            log.warning(
                "[%s] This host was lost, and %s continues it: what is left here is ended",
                number,
                heard.moved[number],
            )
            self._has_news.set()
        self.moved.clear()
        self.moved.update(heard.moved)
        now = asyncio.get_running_loop().time()
        return self._silence.hear(heard.beats, now) if self._silence else {}

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat at intervals until the block ends, from its start: what has moved is known then.

        Raises: DependencyUnavailable at its start.
        """
        await self.beat()
        self._beats = asyncio.create_task(self._beat_on())
        try:
            yield
        finally:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)

    async def _beat_on(self) -> None:
        while self._silence is None:
            await asyncio.Event().wait()  # this host cannot be lost, and watches nobody
        interval = min(_LONGEST_SECONDS, self._silence.lost_after.total_seconds() / _BEATS)
        while True:
            await asyncio.sleep(interval)
            try:
                self._lost = await self.beat()
            except DependencyUnavailable as error:
                self._lost = {}
                log.warning("No host is watched: %s", error)
            self._has_beaten.set()

    async def watch(self, serve: Serve, clean: Clean) -> None:
        """Serve the queues of lost hosts, for ever.

        `clean` ends what is left here of what has moved: its agents may be at work.
        """
        assert self._beats  # it is called in the block of `beating`
        cleaning = asyncio.create_task(self._clean_when_moved(clean))
        try:
            while True:
                waiting = asyncio.create_task(self._has_beaten.wait())
                await asyncio.wait(
                    {waiting, self._beats, cleaning}, return_when=asyncio.FIRST_COMPLETED
                )
                waiting.cancel()
                for task in (self._beats, cleaning):
                    if task.done():
                        task.result()
                self._has_beaten.clear()
                self._follow(self._lost, serve)
        finally:
            cleaning.cancel()
            self._follow({}, serve)
            served = (each.task for each in self._served.values())
            await asyncio.gather(cleaning, *served, return_exceptions=True)

    async def _clean_when_moved(self, clean: Clean) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            await clean()

    def _follow(self, lost: Mapping[str, str], serve: Serve) -> None:
        for host, served in self._served.items():
            if lost.get(host) != served.beat and not served.over.is_set():
                log.warning("Host %s is not taken for lost any more", host)
                served.over.set()
            if served.task.done():
                served.task.result()
        for host, beat in lost.items():
            before = self._served.get(host)
            if before is None or (before.over.is_set() and before.task.done()):
                log.warning("Host %s is lost: what it has shared continues on %s", host, self._host)
                over = asyncio.Event()
                task = asyncio.create_task(_serve(serve(host, beat), over))
                self._served[host] = Served(beat, over, task)


async def _serve(workers: Sequence[Worker], over: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
        await over.wait()


async def share_at_intervals(ports: HostPorts) -> None:
    """Push what this host has of its requirements, then what could not be pushed, for ever."""
    unseen: Sequence[str] | None = None
    while ports.workspaces:
        try:
            if unseen is None:
                unseen = await ports.store.open_on(ports.host)
            await ports.workspaces.share(unseen)
            unseen = ()
        except (DependencyUnavailable, GitFailed, ProjectRefused, OSError) as error:
            log.warning("What was merged before is not shared yet: %s", error)
        await asyncio.sleep(_SHARE_SECONDS)
    await asyncio.Event().wait()
