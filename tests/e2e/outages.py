"""A worker, its agents, and servers of their own that a test takes away and brings back."""

import asyncio
import fcntl
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest
from nats.js.api import Header
from temporalio.api.enums.v1 import PendingActivityState

from adapters.git.project import Project
from adapters.local_stack import StackAddresses
from adapters.sdlc.views import IncidentView
from pipeline.events import STREAMS
from pipeline.model import IncidentEnd, Pipeline, RequirementState
from pipeline.team import TEAM
from tests.eventually import PATIENCE_SECONDS, eventually_async
from tests.fixtures_sdlc import NatsServer, PostgresServer
from tests.orchestra import Handle, Orchestra
from tests.ports import own_port

NATS, DATABASE = "NATS", "SDLC database"


@dataclass(frozen=True)
class Absence:
    """When servers were away: after the last was stopped, before the first was started."""

    names: tuple[str, ...]
    begun: datetime
    over: datetime

    def holds(self, moment: datetime | None) -> bool:
        """Whether that moment lies within it."""
        return moment is not None and self.begun < moment < self.over


class Outages:
    """Requirements of one host whose NATS and database may be taken away."""

    def __init__(self, orchestra: Orchestra, nats: NatsServer, postgres: PostgresServer) -> None:
        self.orchestra = orchestra
        self.puppets = orchestra.puppets
        self.worker = orchestra.worker
        self.nats = nats
        self.servers: Mapping[str, NatsServer | PostgresServer] = {NATS: nats, DATABASE: postgres}
        self.handles: dict[str, Handle] = {}
        self._begun = datetime.now(UTC)

    def number(self, name: str) -> str:
        """The number of the requirement of that name."""
        return f"{self.orchestra.number}-{name}"

    async def start(self, name: str, plan: Pipeline) -> str:
        """Start a requirement; its number."""
        number = self.number(name)
        self.handles[name] = await self.orchestra.start(plan, number=number)
        return number

    async def take_away(self, names: Sequence[str]) -> None:
        """Stop those servers."""
        for name in names:
            await asyncio.to_thread(self.servers[name].stop)
        self._begun = datetime.now(UTC)

    async def bring_back(self, names: Sequence[str]) -> Absence:
        """Start them again; when they were away."""
        absence = Absence(tuple(names), self._begun, datetime.now(UTC))
        for name in names:
            await asyncio.to_thread(self.servers[name].start)
        return absence

    async def lasted(self, length: timedelta) -> None:
        """The servers have been away for so long: the outage itself is what takes time here."""
        left = self._begun + length - datetime.now(UTC)
        await asyncio.sleep(max(0.0, left.total_seconds()))

    def deliveries_held(self) -> AbstractContextManager[None]:
        """As if another process moved the project's files now: deliveries and openings wait."""
        return deliveries_held(self.orchestra)

    async def until_under_way(self, name: str, activity: str) -> None:
        """Wait until a worker has taken that activity of the requirement."""

        async def is_taken() -> bool:
            pending = (await self.handles[name].describe()).raw_description.pending_activities
            taken = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
            return any(
                (each.activity_type.name, each.state) == (activity, taken) for each in pending
            )

        await eventually_async(is_taken, f"{activity} of {name}")

    async def all_delivered(self) -> None:
        """Wait until every requirement is delivered, which no timer of minutes brings about."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            results = (handle.result() for handle in self.handles.values())
            reports = await asyncio.gather(*results)
        assert {report.state for report in reports} == {RequirementState.DELIVERED}, reports

    # --- what the books say -----------------------------------------------------------------------

    async def check_agents(self, absence: Absence) -> None:
        """Each agent was started once, by its own count and by the rows; none in the outage."""
        counted = Counter(
            (sign.number, sign.name, sign.attempt)
            for sign in self.puppets.signs("start")
            if sign.name in TEAM
        )
        assert set(counted.values()) == {1}, counted
        rows = await self.orchestra.query(
            "SELECT number, agent, attempt::text, starts, started_at FROM runs"
        )
        assert {row[:3] for row in rows} == set(counted)
        assert {row[3] for row in rows} == {1}, rows
        assert not [row for row in rows if absence.holds(row[4])]

    async def check_events(self) -> None:
        """Every event of the database is in a stream once, and nothing else is there."""

        async def is_all_out() -> bool:
            owed = await self.orchestra.query(
                "SELECT event_id FROM events WHERE published_at IS NULL"
            )
            return not owed

        await eventually_async(is_all_out, "every event published")
        rows = await self.orchestra.query("SELECT event_id FROM events")
        stored = [event_id async for event_id in self._stored()]
        assert Counter(event_id for (event_id,) in rows) == Counter(stored)

    async def check_holds(self, absence: Absence) -> None:
        """What was held by the outage is a row with both times; nothing is held any more.

        The others wait for their turn to deliver.
        """
        rows = await self.orchestra.query(
            "SELECT number, boundary, held_by, created_at, ended_at FROM holds"
        )
        ours = {self.number(name) for name in self.handles}
        assert {name for row in rows for name in row[2]} <= {*absence.names, *ours}
        assert all(row[4] for row in rows), f"{rows} are held for ever"
        by_outage = [row for row in rows if ours.isdisjoint(row[2])]
        assert by_outage, "nothing was held"
        for row in by_outage:
            assert absence.begun - timedelta(seconds=1) < row[3] < row[4], row

    async def incidents(self, names: Sequence[str]) -> Sequence[IncidentView]:
        """Wait until each of them has a row; those that did not pass by themselves, in order."""
        found: list[IncidentView] = []

        async def are_written() -> bool:
            rows = await self.orchestra.reader.incidents()
            found[:] = [each for each in rows if each.end is not IncidentEnd.PASSED]
            return len(found) >= len(names)

        await eventually_async(are_written, f"incidents of {', '.join(names)}")
        return sorted(found, key=lambda each: each.began_at)

    async def history_length(self, workflow_id: str = "") -> int:
        """How many events Temporal has of that workflow's present run; of Sasha's by default."""
        workflow_id = workflow_id or self.orchestra.installation.sasha
        handle = self.orchestra.temporal.get_workflow_handle(workflow_id)
        return (await handle.describe()).history_length

    async def _stored(self) -> AsyncIterator[str]:
        client = await nats.connect(self.nats.url, user="agog", password=self.nats.password)
        try:
            jetstream = client.jetstream()
            for stream in STREAMS:
                state = (await jetstream.stream_info(stream.name)).state
                for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                    message = await jetstream.get_msg(stream.name, sequence)
                    assert message.headers
                    yield message.headers[Header.MSG_ID]
        finally:
            await client.close()


@contextmanager
def deliveries_held(orchestra: Orchestra) -> Iterator[None]:
    """As if another process moved the files of the host's project: deliveries and openings wait."""
    name = Project(orchestra.project.root).lock_name
    lock = orchestra.home / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@asynccontextmanager
async def outages_of(
    stack: StackAddresses, postgres: PostgresServer, directory: Path
) -> AsyncIterator[Outages]:
    """A host beside the session's Temporal, its worker not yet running; gone afterwards."""
    nats_server = NatsServer(directory / "nats", own_port(), secrets.token_hex(16))
    nats_server.directory.mkdir()
    nats_server.start()
    addresses = replace(
        stack,
        nats_url=nats_server.url,
        nats_user="agog",
        nats_password=nats_server.password,
        database_url=postgres.url("postgres"),
    )
    orchestra = Orchestra(addresses, directory)
    await orchestra.open()
    try:
        yield Outages(orchestra, nats_server, postgres)
    finally:
        for server in (nats_server, postgres):
            if server.process is None:  # the test has failed in the middle of an outage
                server.start()
        await orchestra.close()
        nats_server.stop()


@pytest.fixture(scope="session")
def away_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A database server that only tests of outages use, one at a time."""
    directory = tmp_path_factory.mktemp("postgres-away")
    server = PostgresServer(directory, own_port(), secrets.token_hex(16))
    server.create()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory / "data")


@pytest.fixture
async def outages(
    stack: StackAddresses, away_postgres: PostgresServer, tmp_path: Path
) -> AsyncIterator[Outages]:
    async with outages_of(stack, away_postgres, tmp_path) as outages:
        yield outages
