"""`demo --kill`: the demo kills its own worker, then everything but the agents, while they work.

What came of it is counted from the rows and from the stream, never assumed.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from adapters.health_probe import WORKER_FILE
from adapters.local_stack import Child, StackAddresses
from adapters.local_stack.child import log_tail, recorded_process
from adapters.nats import events as nats_events
from adapters.runs.inventory import count_runs
from adapters.sdlc.reader import SdlcReader, create_reader
from cli import output
from pipeline.errors import DependencyUnavailable, ServerNotStarted, UnknownRequirement
from pipeline.events import STREAMS
from pipeline.model import StageState

AGENTS = ("roy", "jen")
"""They work at the same time, and go on until they are told to end."""

_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
"""Before a worker that has ended is started again: its servers may not answer yet."""


class Killings:
    """Kills what the demo runs; `release` is the file that lets the agents end."""

    def __init__(self, state: Path, worker: Child, release: Path, reader: SdlcReader) -> None:
        self._state = state
        self._worker = worker
        self._release = release
        self._reader = reader
        self.done: list[tuple[str, ...]] = []
        """What was killed each time."""

    async def keep_worker(self) -> None:
        """Start the worker again whenever it ends, as `up` does."""
        while True:
            code = await self._worker.exited()
            await asyncio.sleep(_PAUSE_SECONDS)
            self._worker.start()
            output.say(f"worker exited with code {code}: started again.")

    async def run(self, number: str) -> None:
        """Kill the worker, then servers and worker, each while both agents work.

        Raises: ServerNotStarted if that does not come about in two minutes.
        """
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._until_at_work(number)
                self._kill(["worker"])
                await self._until_worker()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._until_at_work(number)
                records = (self._state / "stack").glob("*.json")
                self._kill(sorted(record.stem for record in records))
                self._release.touch()
                output.say("The agents end while nothing else lives.")
                await self._until_worker()
        except TimeoutError:
            raise ServerNotStarted("Worker", log_tail(self._worker.log)) from None

    def _kill(self, names: Sequence[str]) -> None:
        """SIGKILL: nothing can be saved first. Servers are started again by the stack."""
        killed = []
        for name in names:
            if process := recorded_process(self._state, name):
                with suppress(psutil.NoSuchProcess):
                    below = [] if name == "worker" else process.children(recursive=True)
                    for each in (process, *below):
                        each.kill()
                    killed.append(name)
        self.done.append(tuple(killed))
        output.say(f"kill -9 {', '.join(killed)}, while {' and '.join(AGENTS)} work.")

    async def _until_at_work(self, number: str) -> None:
        while not await self._are_at_work(number):  # noqa: ASYNC110 -- a row sets no Event
            await asyncio.sleep(_POLL_SECONDS)

    async def _are_at_work(self, number: str) -> bool:
        try:
            stages = (await self._reader.requirement(number)).stages
        except (DependencyUnavailable, UnknownRequirement):
            return False
        living = await asyncio.to_thread(count_runs, self._state)
        return living.living == len(AGENTS) and set(AGENTS) <= {
            stage.agent for stage in stages if stage.state is StageState.RUNNING and stage.starts
        }

    async def _until_worker(self) -> None:
        def lives() -> bool:
            try:
                found = json.loads((self._state / WORKER_FILE).read_text(encoding="utf-8"))
            except FileNotFoundError:
                return False
            return bool(found["pid"] == self._worker.pid and self._worker.exit_code is None)

        await asyncio.sleep(_PAUSE_SECONDS)
        while not lives():  # noqa: ASYNC110 -- a file sets no Event
            await asyncio.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Survived:
    """What came of the kills, counted: of each stage the most starts and runs that any had."""

    killed: tuple[tuple[str, ...], ...]
    starts: int
    runs: int
    repeated: int
    events: int
    lost: int

    @property
    def line(self) -> str:
        """The counts in words."""
        return ", ".join(
            (
                _counted(self.starts, "start"),
                _counted(self.runs, "run"),
                f"{_counted(self.repeated, 'stage')} repeated",
                f"{_counted(self.lost, 'event')} lost",
            )
        )


def survived(
    killed: Iterable[tuple[str, ...]],
    runs: Iterable[tuple[str, int]],
    recorded: Iterable[str],
    told: Iterable[str],
) -> Survived:
    """What the rows of runs say, and which recorded events the streams do not hold, by their ids.

    A run is its stage and how often its agent was started. A stage is repeated that has more than
    one run, or one that was started more than once.
    """
    runs_of, starts_of = Counter[str](), Counter[str]()
    for stage, starts in runs:
        runs_of[stage] += 1
        starts_of[stage] += starts
    written, held = set(recorded), set(told)
    return Survived(
        tuple(killed),
        max(starts_of.values(), default=0),
        max(runs_of.values(), default=0),
        sum(runs_of[stage] > 1 or starts_of[stage] > 1 for stage in runs_of),
        len(written),
        len(written - held),
    )


async def count_survived(
    addresses: StackAddresses, number: str, killed: Iterable[tuple[str, ...]]
) -> Survived:
    """Count from the database and from what JetStream holds."""
    reader = create_reader(addresses.database_url)
    try:
        runs = [(run.stage, run.starts) for run in await reader.runs(number)]
        recorded = [event.event_id for event in await reader.events(number)]
    finally:
        await reader.close()
    client = await nats_events.connect(
        addresses.nats_url, addresses.nats_user, addresses.nats_password
    )
    try:
        told = [
            str(event["eventId"])
            for stream in STREAMS
            for subject in stream.subjects
            async for event in client.events(subject=subject)
        ]
    finally:
        await client.close()
    return survived(killed, runs, recorded, told)


def sentence(done: Survived) -> str:
    """What was killed, and what came of it."""
    times = "; then ".join(", ".join(each) for each in done.killed)
    agents = " and ".join(AGENTS)
    return f"Killed while {agents} worked: {times}.\nOf each stage: {done.line} of {done.events}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
