"""The members of a stack: servers, which are ready when they answer, and plain children."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from adapters.local_stack import logs
from adapters.local_stack.child import Child, ChildSpec
from adapters.local_stack.ports import choose_ports, is_free
from adapters.local_stack.server import Server
from pipeline.errors import ServerNotStarted

READY_SECONDS = 30.0
"""From the start to the first answer: a database may have to recover from a crash first."""

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.05
_PORT_TAKEN = "address already in use"
_STARTS = 3
"""Tries on fresh ports: between finding a port free and listening there, another may take it."""


class Member(Protocol):
    """Something that the stack keeps running."""

    @property
    def title(self) -> str:
        """What people call it."""

    async def start(self) -> None:
        """Start it. Raises: ServerNotStarted."""

    async def restart(self) -> None:
        """Start it again where it was. Raises: ServerNotStarted."""

    async def ended(self) -> str:
        """Wait until it has ended; how, and where to read why."""

    @property
    def ended_on_purpose(self) -> bool:
        """Whether somebody has ended it to have it started again."""

    async def stop(self) -> None:
        """End it."""


class ServerMember:
    """A server, on the ports that it got."""

    def __init__(
        self, server: Server, home: Path, kept_ports: Mapping[str, int], usual_ports: bool = True
    ) -> None:
        self.server = server
        self.ports = {
            name: kept_ports.get(name, port if usual_ports else 0)
            for name, port in server.preferred_ports.items()
        }
        self._home = home
        self._child: Child | None = None

    @property
    def title(self) -> str:
        """What people call the server."""
        return self.server.title

    async def start(self) -> None:
        """Start on free ports and wait for an answer."""
        for remaining in reversed(range(_STARTS)):
            self.ports = choose_ports(self.ports)
            try:
                return await self.restart()
            except ServerNotStarted as error:
                if not (remaining and self._lost_a_port(error)):
                    raise

    def _lost_a_port(self, error: ServerNotStarted) -> bool:
        """Whether somebody was quicker: on a port of ours, or on one that the server chose itself.

        Temporal opens several that nobody can name beforehand; only its log tells.
        """
        return _PORT_TAKEN in str(error) or not all(map(is_free, self.ports.values()))

    async def restart(self) -> None:
        """Start on the same ports and wait for an answer."""
        await self.stop()
        spec = await asyncio.to_thread(self.server.prepare, self.ports)
        self._child = Child(spec, self._home)
        self._child.start()
        await self._until_ready(self._child)

    async def ended(self) -> str:
        """Wait until the server has ended; at once if it never started."""
        return await _end_of(self._child) if self._child else "was not started"

    @property
    def ended_on_purpose(self) -> bool:
        """Whether somebody has ended the server to have it started again."""
        return self._child is not None and self._child.ended_on_purpose

    async def stop(self) -> None:
        """End the server."""
        if self._child:
            await self._child.stop()

    async def _until_ready(self, child: Child) -> None:
        flaw: str | None = "it was not asked yet"
        try:
            async with asyncio.timeout(READY_SECONDS):
                while flaw := await self._flaw(child):  # noqa: ASYNC110 -- a server sets no Event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            await child.stop()
            raise self._failure(child, f"not ready in {READY_SECONDS:.0f} s: {flaw}") from None

    async def _flaw(self, child: Child) -> str | None:
        if child.exit_code is not None:
            raise self._failure(child, f"it exited with code {child.exit_code}")
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self.server.flaw(self.ports, child.pid)
        except TimeoutError:
            return f"no answer in {_ANSWER_SECONDS:.0f} s"

    def _failure(self, child: Child, reason: str) -> ServerNotStarted:
        quote = logs.tail(child.log)
        return ServerNotStarted(self.title, f"{reason}. The end of {child.log}:\n{quote}")


class ChildMember:
    """Any other program that lives and dies with the stack, such as the worker."""

    def __init__(self, spec: ChildSpec, home: Path) -> None:
        self._child = Child(spec, home)

    @property
    def title(self) -> str:
        """Its name."""
        return self._child.spec.name

    async def start(self) -> None:
        """Start it; there is no telling when it is ready."""
        self._child.start()

    async def restart(self) -> None:
        """Start it again."""
        self._child.start()

    async def ended(self) -> str:
        """Wait until it has ended."""
        return await _end_of(self._child)

    @property
    def ended_on_purpose(self) -> bool:
        """Whether somebody has ended it to have it started again."""
        return self._child.ended_on_purpose

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()


async def _end_of(child: Child) -> str:
    return f"exited with code {await child.exited()} (its log: {child.log})"
