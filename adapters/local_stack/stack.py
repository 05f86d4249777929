"""The embedded stack: started together, watched, stopped in order."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.local_stack.child import Child, ChildSpec, log_tail, stop_leftovers
from adapters.local_stack.nats_server import NatsServer
from adapters.local_stack.postgres_server import PostgresServer
from adapters.local_stack.server import Server, choose_ports, is_free
from adapters.local_stack.state import (
    DATABASE_URL,
    NATS_PASSWORD,
    NATS_URL,
    NATS_USER,
    TEMPORAL_ADDRESS,
    StackAddresses,
    StackState,
)
from adapters.local_stack.temporal_server import TemporalServer
from pipeline.errors import ServerNotStarted

READY_SECONDS = 30.0
"""From the start to the first answer: a database may have to recover first."""

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.05
_PORT_TAKEN = "address already in use"
_STARTS = 3
"""Attempts on fresh ports: another program may take a port that was just free."""

STEADY_SECONDS = 10.0
"""A member that ran this long before it died is restarted without a pause."""

MAX_PAUSE_SECONDS = 30.0
_CANCEL_SECONDS = 0.5
_STOP_ORDER = (NatsServer.name, PostgresServer.name, TemporalServer.name)


@dataclass(frozen=True)
class StackIncident:
    """A member died, and whether it could be started again."""

    member: str
    problem: str
    outcome: str
    is_recovered: bool


@dataclass(frozen=True)
class MovedPort:
    """Another program listens where users expect us."""

    name: str
    expected: int
    actual: int


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
        """Whether it was ended on purpose, to be started again."""

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
                # Temporal also opens ports of its own choice: only its log tells of those.
                lost_a_port = _PORT_TAKEN in str(error) or not all(
                    map(is_free, self.ports.values())
                )
                if not (remaining and lost_a_port):
                    raise

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
        """Whether the server was ended on purpose, to be started again."""
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
        quote = log_tail(child.log)
        return ServerNotStarted(self.title, f"{reason}. The end of {child.log}:\n{quote}")


class ChildMember:
    """Any other program that starts and stops with the stack, such as the worker."""

    def __init__(self, spec: ChildSpec, home: Path) -> None:
        self._child = Child(spec, home)

    @property
    def title(self) -> str:
        """Its name."""
        return self._child.spec.name

    async def start(self) -> None:
        """Start it; nothing tells when it is ready."""
        self._child.start()

    async def restart(self) -> None:
        """Start it again."""
        self._child.start()

    async def ended(self) -> str:
        """Wait until it has ended."""
        return await _end_of(self._child)

    @property
    def ended_on_purpose(self) -> bool:
        """Whether it was ended on purpose, to be started again."""
        return self._child.ended_on_purpose

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()


async def _end_of(child: Child) -> str:
    return f"exited with code {await child.exited()} (its log: {child.log})"


class LocalStack:
    """Temporal, NATS and PostgreSQL under one state directory, and what else runs beside them.

    A service whose address is given is used as it is; no server is started for it.
    """

    def __init__(
        self,
        home: Path,
        *,
        temporal_address: str | None = None,
        nats_url: str | None = None,
        nats_user: str | None = None,
        nats_password: str | None = None,
        database_url: str | None = None,
        children: Sequence[ChildSpec] = (),
        usual_ports: bool = True,
    ) -> None:
        """Start nothing yet; `children` are started after the servers and stopped before them.

        Without `usual_ports`, the ports where users expect them, the servers listen on any.
        """
        given = {
            TEMPORAL_ADDRESS: temporal_address,
            NATS_URL: nats_url,
            NATS_USER: nats_user,
            NATS_PASSWORD: nats_password,
            DATABASE_URL: database_url,
        }
        self._given = {name: value for name, value in given.items() if value}
        self._home = home.absolute()
        self._state = StackState(self._home)
        self._children = [ChildMember(spec, self._home) for spec in children]
        self._usual_ports = usual_ports
        self._servers: list[ServerMember] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._undo = AsyncExitStack()
        self.leftovers: tuple[str, ...] = ()
        """What a killed stack had left running and `start` ended."""

    async def start(self) -> StackAddresses:
        """Start all servers at once and wait until each answers, then the children.

        Raises: RefusedInput if a stack runs on this directory, ServerNotStarted.
        """
        self._state.acquire()
        self._undo.callback(self._state.release)
        try:
            return await self._start_members()
        except BaseException:
            await self.stop()
            raise

    async def watch(self, report: Callable[[StackIncident], None]) -> None:
        """Restart every member that dies, on the same ports and data, until `stop`."""
        async with asyncio.TaskGroup() as group:
            members: list[Member] = [*self._servers, *self._children]
            for member in members:
                self._keepers.append(group.create_task(_keep(member, report)))
            await self._stopping.wait()

    async def stop(self) -> None:
        """Stop the children, NATS, PostgreSQL and Temporal, in that order; a repeat is harmless."""
        self._stopping.set()
        await _cancel(self._keepers)
        await self._undo.aclose()

    async def __aenter__(self) -> StackAddresses:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def moved_ports(self) -> tuple[MovedPort, ...]:
        """Every port that is not the expected one."""
        return tuple(
            MovedPort(name, expected, member.ports[name])
            for member in self._servers
            for name, expected in member.server.preferred_ports.items()
            if self._usual_ports and member.ports[name] != expected
        )

    async def _start_members(self) -> StackAddresses:
        self.leftovers = await stop_leftovers(self._home, last=_STOP_ORDER)
        kept = self._state.kept_ports()
        self._servers = [
            ServerMember(server, self._home, kept, self._usual_ports)
            for server in self._own_servers()
        ]
        for server in self._servers:
            self._undo.push_async_callback(server.stop)
        await _start_together(self._servers)
        addresses = self._publish(kept)
        for child in self._children:
            self._undo.push_async_callback(child.stop)
            await child.start()
        return addresses

    def _own_servers(self) -> list[Server]:
        """A server for each address that is not given, in reverse order of `stop`."""
        servers: list[Server] = []
        if TEMPORAL_ADDRESS not in self._given:
            servers.append(TemporalServer(self._home))
        if DATABASE_URL not in self._given:
            servers.append(PostgresServer(self._home))
        if NATS_URL not in self._given:
            login = self._given.get(NATS_USER), self._given.get(NATS_PASSWORD)
            servers.append(NatsServer(self._home, *login))
        return servers

    def _publish(self, kept_ports: dict[str, int]) -> StackAddresses:
        settings, ports = dict(self._given), dict(kept_ports)
        for member in self._servers:
            settings.update(member.server.settings(member.ports))
            ports.update(member.ports)
        self._undo.callback(self._state.withdraw)
        names = tuple(member.server.name for member in self._servers)
        self._state.publish(settings, ports, names)
        return StackAddresses.from_settings(settings)


async def _cancel(keepers: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a client that is just closing may swallow a cancellation."""
    living = set(keepers)
    while living:
        for keeper in living:
            keeper.cancel()
        _, living = await asyncio.wait(living, timeout=_CANCEL_SECONDS)


async def _start_together(members: Sequence[Member]) -> None:
    """Start all; one error names every member that did not start."""
    outcomes = await asyncio.gather(*(m.start() for m in members), return_exceptions=True)
    errors = [outcome for outcome in outcomes if outcome is not None]
    if len(errors) > 1 and all(isinstance(error, ServerNotStarted) for error in errors):
        titles = [m.title for m, outcome in zip(members, outcomes, strict=True) if outcome]
        raise ServerNotStarted(" and ".join(titles), "\n".join(map(str, errors)))
    if errors:
        raise errors[0]


async def _keep(member: Member, report: Callable[[StackIncident], None]) -> None:
    """Restart the member whenever it ends, after a longer pause each time if it does not last."""
    clock = asyncio.get_running_loop()
    setbacks = 0
    while True:
        since = clock.time()
        problem = await member.ended()
        is_steady = clock.time() - since >= STEADY_SECONDS or member.ended_on_purpose
        setbacks = 0 if is_steady else setbacks + 1
        pause = min(2.0 ** min(setbacks - 1, 10) - 1, MAX_PAUSE_SECONDS) if setbacks else 0.0
        await asyncio.sleep(pause)
        try:
            await member.restart()
        except ServerNotStarted as error:
            report(StackIncident(member.title, problem, str(error), is_recovered=False))
        else:
            report(StackIncident(member.title, problem, "started again", is_recovered=True))
