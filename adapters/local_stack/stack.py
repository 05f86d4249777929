"""The embedded stack: started together, watched, stopped in order."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from adapters.local_stack.addresses import (
    DATABASE_URL,
    NATS_PASSWORD,
    NATS_URL,
    NATS_USER,
    TEMPORAL_ADDRESS,
    StackAddresses,
)
from adapters.local_stack.child import ChildSpec, stop_leftovers
from adapters.local_stack.members import ChildMember, Member, ServerMember
from adapters.local_stack.nats_server import NatsServer
from adapters.local_stack.postgres_server import PostgresServer
from adapters.local_stack.server import Server
from adapters.local_stack.state import StackState
from adapters.local_stack.temporal_server import TemporalServer
from pipeline.errors import ServerNotStarted

STEADY_SECONDS = 10.0
"""A member that ran this long and died is started again at once, without a pause."""

MAX_PAUSE_SECONDS = 30.0
_CANCEL_SECONDS = 0.5
_STOP_ORDER = (NatsServer.name, PostgresServer.name, TemporalServer.name)


@dataclass(frozen=True)
class StackIncident:
    """A member died; what came of starting it again."""

    member: str
    problem: str
    outcome: str
    is_recovered: bool


@dataclass(frozen=True)
class MovedPort:
    """Somebody else listens where users expect us."""

    name: str
    expected: int
    actual: int


class LocalStack:
    """Temporal, NATS and PostgreSQL under one state directory, and what else is to run beside.

    What is given an address is used as it is; nothing is started for it.
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

        Without the usual ports, where users expect the servers, they listen on any.
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
        """Start again whatever dies, on the same ports and data, until `stop`."""
        async with asyncio.TaskGroup() as group:
            members: list[Member] = [*self._servers, *self._children]
            for member in members:
                self._keepers.append(group.create_task(_keep(member, report)))
            await self._stopping.wait()

    async def stop(self) -> None:
        """Stop the children, NATS, PostgreSQL and Temporal, in that order; once is enough."""
        self._stopping.set()
        await _cancel(self._keepers)
        await self._undo.aclose()

    async def __aenter__(self) -> StackAddresses:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """Servers for what is not given, in the order of `stop` reversed."""
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
    """End them all. A client that closes at that very moment may swallow a cancellation."""
    living = set(keepers)
    while living:
        for keeper in living:
            keeper.cancel()
        _, living = await asyncio.wait(living, timeout=_CANCEL_SECONDS)


async def _start_together(members: Sequence[Member]) -> None:
    """Start all; one error tells of every one that did not start."""
    outcomes = await asyncio.gather(*(m.start() for m in members), return_exceptions=True)
    errors = [outcome for outcome in outcomes if outcome is not None]
    if len(errors) > 1 and all(isinstance(error, ServerNotStarted) for error in errors):
        titles = [m.title for m, outcome in zip(members, outcomes, strict=True) if outcome]
        raise ServerNotStarted(" and ".join(titles), "\n".join(map(str, errors)))
    if errors:
        raise errors[0]


async def _keep(member: Member, report: Callable[[StackIncident], None]) -> None:
    """Wait for the member's end and start it again, later each time if it does not last."""
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
