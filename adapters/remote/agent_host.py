"""An agent host: takes the work items of its agents, runs their programs here, and delivers.

The run directories of this host remember what was started: whatever is delivered again finds its
run. A claim in the stream keeps a second host of the same agent from starting it as well.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from adapters.builds.project_builds import ProjectBuilds
from adapters.files import write_atomically
from adapters.remote import archive
from adapters.remote.channel import ACK_WAIT_SECONDS, BrokenFiles, HostChannel
from adapters.remote.messages import MOST_TEXT, Claim, Deliverable, WorkItem
from adapters.remote.order import ORDER_HOST
from adapters.remote.repository import HostRepository, TakenWork
from adapters.runs.directory import RunDirectory
from adapters.runs.handover import hand_over
from adapters.runs.host import HostRuns
from adapters.waiting import cleaned
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import CommandAgent, CurrentAgents
from pipeline.endings import MEANINGS
from pipeline.errors import (
    AgentsFileRefused,
    GitFailed,
    ProjectRefused,
    RefusedInput,
    UnknownRequirement,
)
from pipeline.model import (
    Ending,
    FailureKind,
    Head,
    Priority,
    RequirementRef,
    RunEnd,
    RunOrder,
    RunResult,
    SlotRequest,
    Stage,
    StageRequest,
)
from pipeline.preparation import explained
from pipeline.prompt import unprepared_prompt

log = logging.getLogger("agog.agent-host")

DELIVERED = "agent-host/delivered"
"""Folder of the state directory with a file for each item whose deliverable is stored."""
_IDENTITY = "agent-host/id"

_ALIVE_SECONDS = ACK_WAIT_SECONDS / 3
_MOST_BYTES = 900_000
"""Of a deliverable: a NATS server takes messages of 1 MiB unless it is told otherwise."""
_TRIES = 5
"""How often the clone of an item is tried to be made."""
_AGAIN_SECONDS = 2.0
"""Before an item is offered again that this host cannot take now."""


@dataclass(frozen=True)
class _LaterElsewhere(Exception):
    """This host does not do the item now; it is offered again."""

    why: str


class AgentHost:
    """Serves the work items of some agents with the kinds of this host's agents file."""

    def __init__(
        self,
        home: Path,
        host: str,
        client: Client,
        runs: HostRuns,
        builds: ProjectBuilds,
        agents: CurrentAgents,
    ) -> None:
        """`runs` bounds how many agents live here at once."""
        self._home = home
        self._host = host
        self._channel = HostChannel(client)
        self._runs = runs
        self._builds = builds
        self._agents = agents
        self._repository = HostRepository(home)
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._id = _identity(home)

    async def serve(self, names: Sequence[str]) -> None:
        """Take the items of these agents, for ever; cancelled, it leaves their programs alone."""
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._take_items(name))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self, names: Sequence[str]) -> None:
        """Check that this host's agents file says how each of them runs here.

        Raises: AgentsFileRefused if one is not described, works elsewhere, or is told something.
        """
        agents = self._agents()
        for name in names:
            agent = agents.agent(name)
            if isinstance(agent, CommandAgent | ProgramAgent):
                told = {"instructions": agent.instructions, "prompt_file": agent.prompt_file}
                for key in filter(told.get, told):
                    reason = "is told by the orchestrator: say it in the agents file there"
                    raise AgentsFileRefused(agents.source, f"agents.{name}.{key}", reason)
            if agent is None or (isinstance(agent, ProgramAgent) and agent.is_remote):
                reason = "must say how it runs on this agent host, by another kind than nats"
                raise AgentsFileRefused(agents.source, f"agents.{name}", reason)

    async def _take_items(self, name: str) -> None:
        # Also without a free slot: an agent that runs may have to be ended.
        async for message in self._channel.items(name):
            task = asyncio.create_task(self._handle(name, message))
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("A work item failed, and is offered again", exc_info=error)

    async def _handle(self, name: str, message: Msg) -> None:
        """Do what a message asks for, and acknowledge it when that is stored."""
        try:
            item = WorkItem.model_validate_json(message.data)
            if item.agent.name != name:
                raise ValueError(f"it is for {item.agent.name}")
            RunDirectory.of(self._home, item.run_id)
        except (ValidationError, ValueError, RefusedInput) as error:
            log.error("A work item for %s cannot be read, and is dropped: %s", name, error)
            return await message.term()
        try:
            async with _alive(message):
                if item.type == "stop":
                    await self._stop(item)
                elif item.type == "extend":
                    await self._extend(item)
                else:
                    tries = message.metadata.num_delivered
                    await self._do(item, is_last_try=tries >= _TRIES)
            await message.ack()
        except _LaterElsewhere as later:
            log.debug("%s is offered again: %s", item.run_id, later.why)
            await _offer_again(message, _AGAIN_SECONDS)
        except asyncio.CancelledError:  # this process ends, and the next one is to go on at once
            await cleaned(_offer_again(message))
            raise
        except (NatsError, OSError, GitFailed) as error:
            # Its run goes on here, and is found when it is offered again.
            log.warning("%s is tried again: %s", item.run_id, error)
            await _offer_again(message, _AGAIN_SECONDS)
        return None

    # --- one item -------------------------------------------------------------------------------

    async def _do(self, item: WorkItem, *, is_last_try: bool) -> None:
        """Have the item done once, and store what has come of it; a repeat finds it done."""
        if item.item in self._busy:
            raise _LaterElsewhere("it is being done here")
        self._busy.add(item.item)
        try:
            delivered = self._home / DELIVERED / item.item
            if not delivered.exists():
                await self._finish(item, is_last_try=is_last_try)
                write_atomically(delivered, "")
            await self._repository.discard(item)
        finally:
            self._busy.remove(item.item)

    async def _finish(self, item: WorkItem, *, is_last_try: bool) -> None:
        """Have its run end, and deliver what has come of it, unless nobody wants that any more."""
        result: RunResult | str | None
        try:
            result = await self._result(item)
        except (BrokenFiles, ProjectRefused, AgentsFileRefused) as error:
            result = str(error)
        except GitFailed as error:
            if not is_last_try:
                raise
            result = str(error)
        if result is None or (isinstance(result, RunResult) and result.end is RunEnd.CANCELLED):
            log.info("%s was ended by its order", item.run_id)
            await self._keep(item)
        else:
            try:
                await self._deliver(item, result)
            except BrokenFiles as error:
                await self._deliver(item, str(error))

    async def _result(self, item: WorkItem) -> RunResult | None:
        """How the item's run has ended, which is started unless it was; None if it must not be."""
        request = SlotRequest(item.run_id, 2, 0.0)
        while True:
            part = await self._runs.next_part(item.run_id)
            if part is not None:
                async with self._runs.slot(request) as has_slot:
                    if not has_slot:  # before the claim: another host may have one
                        raise _LaterElsewhere("no slot is free")
                    if not part and not await self._is_ours(item):
                        return None
                    order = _order(item, "", "", "") if part else await self._prepared(item)
                    await self._runs.start(order)
            result = await self._runs.attach(request)
            if not result.is_resumable or _is_limited(result):
                return result
            await self._runs.let_resume(item.run_id, result.parts)

    async def _is_ours(self, item: WorkItem) -> bool:
        """Whether this host is to start it; False if nobody is. Raises: _LaterElsewhere."""
        is_over = _is_over(item)  # it would be paid, and most likely nobody waits for it any more
        # An order that was suspended meanwhile still does: it learns so that nobody starts it.
        whose = ORDER_HOST if is_over else self._id
        mine = Claim(host_id=whose, host=self._host, timestamp=datetime.now(UTC))
        held = await self._channel.claim(item, mine)
        if is_over or held.host_id == ORDER_HOST:
            return False
        if held.host_id != self._id:
            raise _LaterElsewhere(f"agent host {held.host} has started it")
        return True

    async def _prepared(self, item: WorkItem) -> RunOrder:
        """The order of a run whose clone is prepared as this host's agents file says.

        The agent starts all the same if that fails, and is told: it may have to mend it.
        """
        order = await self._ordered(item)
        request = _request(item)
        names = self._agents().prepared(request.stage) if item.commit else ()
        if not names:
            return order
        preparation = await self._builds.prepare(request, names, order.worktree)
        if preparation is None or preparation.is_green:
            return order
        said = explained(preparation)
        return replace(
            order,
            prompt=unprepared_prompt(said, order.prompt),
            prompt_by_schema=unprepared_prompt(said, order.prompt_by_schema),
        )

    async def _ordered(self, item: WorkItem) -> RunOrder:
        """The order of a run here, with its clone and documents where its prompt says."""
        run = RunDirectory.of(self._home, item.run_id)
        prompts = {archive.PROMPT: "", archive.PROMPT_BY_SCHEMA: ""}
        with TemporaryDirectory(prefix="item-", dir=self._home) as scratch:
            place, received = Path(scratch, "files"), Path(scratch, "work.tar")
            if item.files:
                await self._channel.fetch_files(item, item.files, received)
                await asyncio.to_thread(archive.unpack, received, place)
            if item.commit:
                await self._repository.check_out(item, place / archive.BUNDLE)
            await asyncio.to_thread(run.create)
            await asyncio.to_thread(rmtree, run.inbox, ignore_errors=True)
            await asyncio.to_thread(hand_over, place / archive.INBOX, run.inbox)
            for name in prompts:
                file = place / name
                text = file.read_text("utf-8", "replace") if file.is_file() else ""
                prompts[name] = self._as_here(item, run, text)
        worktree = str(self._repository.place(item)) if item.commit else ""
        return _order(item, worktree, prompts[archive.PROMPT], prompts[archive.PROMPT_BY_SCHEMA])

    def _as_here(self, item: WorkItem, run: RunDirectory, prompt: str) -> str:
        """The prompt with the directories of this host in the place of the orchestrator's."""
        here = {item.run_directory: str(run.path)}
        if item.commit:
            here[item.directory] = str(self._repository.place(item))
        for there, place in here.items():
            prompt = prompt.replace(there, place) if there else prompt
        return prompt

    async def _deliver(self, item: WorkItem, result: RunResult | str) -> None:
        """Store files and deliverable, in this order."""
        run = RunDirectory.of(self._home, item.run_id)
        deliverable = _deliverable(item, self._host, result)
        if isinstance(result, RunResult) and result.starts:
            with TemporaryDirectory(prefix="made-", dir=self._home) as scratch:
                packed, bundle = Path(scratch, "made.tar"), Path(scratch, archive.BUNDLE)
                taken = await self._taken(item, bundle)
                files = {archive.OUTBOX: run.outbox}
                if taken.has_bundle:
                    files[archive.BUNDLE] = bundle
                await asyncio.to_thread(archive.pack, packed, files)
                stored = await self._channel.send_files(item, packed)
            change = {"files": stored, "remarks": taken.remarks}
            deliverable = deliverable.model_copy(update=change)
        await self._channel.deliver(item, _encoded(deliverable))
        log.info("%s is delivered: %s", item.run_id, deliverable.ending)

    async def _taken(self, item: WorkItem, bundle: Path) -> TakenWork:
        return await self._repository.take(item, bundle) if item.commit else TakenWork(False)

    async def _keep(self, item: WorkItem) -> None:
        """Keep in the store here what a run has left that nobody wants any more."""
        if item.commit and self._repository.place(item).is_dir():
            with TemporaryDirectory(prefix="made-", dir=self._home) as scratch:
                await self._repository.take(item, Path(scratch, archive.BUNDLE))

    async def _stop(self, item: WorkItem) -> None:
        """End the item's run, if it is one of this host. Raises: _LaterElsewhere."""
        if (self._home / DELIVERED / item.item).exists():
            return
        mine = Claim(host_id=ORDER_HOST, timestamp=datetime.now(UTC))
        held = await self._channel.claim(item, mine)
        if held.host_id == self._id:
            await self._runs.end(item.run_id)
        elif held.host_id != ORDER_HOST and not _is_over(item):
            raise _LaterElsewhere(f"agent host {held.host} has started it")

    async def _extend(self, item: WorkItem) -> None:
        """Give the item's run more time, if it is one of this host. Raises: _LaterElsewhere."""
        run = RunDirectory.of(self._home, item.run_id)
        if not run.is_recorded:
            # Another host has it, or nobody yet; once it is too late nobody is told any more.
            if datetime.now(UTC) < item.timestamp + timedelta(seconds=item.deadline_seconds):
                raise _LaterElsewhere("it does not run here")
            return
        try:
            await self._runs.extend(item.run_id, timedelta(seconds=item.deadline_seconds))
        except UnknownRequirement:
            log.info("%s has ended, and needs no more time", item.run_id)


def _order(item: WorkItem, worktree: str, prompt: str, by_schema: str) -> RunOrder:
    return RunOrder(
        run_id=item.run_id,
        number=item.req_number,
        stage=item.stage,
        agent=item.agent.name,
        attempt=item.attempt,
        minutes=1.0,
        deadline=timedelta(seconds=item.deadline_seconds),
        grace=timedelta(seconds=item.grace_seconds),
        prompt=prompt,
        worktree=worktree,
        head=Head(item.commit, item.position) if item.commit else None,
        prompt_by_schema=by_schema,
        declared=item.agent,
    )


def _request(item: WorkItem) -> StageRequest:
    """The stage as it is prepared here."""
    number, workflow_run, _ = item.run_id.split("/", 2)
    stage = Stage(
        name=item.stage,
        agent=item.agent.name,
        group="",
        needs=(),
        minutes=1.0,
        deadline=timedelta(seconds=item.deadline_seconds),
        grace=timedelta(seconds=item.grace_seconds),
        declared=item.agent,
    )
    head = Head(item.commit, item.position)
    ref = RequirementRef(number, workflow_run)
    return StageRequest(ref, Priority.P2, stage, item.attempt, head, 0.0)


def _is_over(item: WorkItem) -> bool:
    """Whether the time of the item is over, unless it was extended."""
    allowed = timedelta(seconds=item.deadline_seconds + item.grace_seconds)
    return datetime.now(UTC) > item.timestamp + allowed


def _is_limited(result: RunResult) -> bool:
    """Whether its account cannot work now: the orchestrator waits for that, and asks again."""
    report = result.report
    return report is not None and MEANINGS[report.ending].kind is FailureKind.LIMITED


def _deliverable(item: WorkItem, host: str, result: RunResult | str) -> Deliverable:
    made = Deliverable(
        run_id=item.run_id,
        agent=item.agent.name,
        req_number=item.req_number,
        item=item.item,
        timestamp=datetime.now(UTC),
        host=host,
    )
    if isinstance(result, str):  # nothing was started
        return made.model_copy(update={"ending": Ending.HANDOVER, "detail": result})
    ending, detail = _ending(result)
    report = result.report
    if report is None:
        return made.model_copy(
            update={"ending": ending, "detail": detail, "text": result.output[-MOST_TEXT:]}
        )
    usage = {name: (used.input, used.output, used.cached) for name, used in report.usage.items()}
    return made.model_copy(
        update={
            "ending": ending,
            "detail": detail,
            "until": report.until,
            "text": report.text[-MOST_TEXT:],
            "answer": report.answer,
            "usage": usage,
            "cost_usd": report.cost_usd,
            "denials": report.denials,
        }
    )


def _encoded(deliverable: Deliverable) -> bytes:
    """As it goes over the wire; an answer that no message can hold is none."""
    encoded = deliverable.encoded()
    if len(encoded) <= _MOST_BYTES:
        return encoded
    said = f"Its answer of {len(encoded):,} bytes is too long to be sent: at most {_MOST_BYTES:,}."
    cut = {"ending": Ending.FAILED, "detail": said, "text": "", "answer": None, "denials": ()}
    return deliverable.model_copy(update={**cut, "remarks": ()}).encoded()


def _ending(result: RunResult) -> tuple[Ending, str]:
    """How the run ended, in the words of a known program, whatever it was."""
    said = " ".join((result.reason or result.error_output[-2000:]).split())
    if result.end is not RunEnd.EXITED:
        return Ending.FAILED, f"{result.end}: {said}"
    if result.report is not None:
        return result.report.ending, result.report.detail
    if result.exit_code:
        return Ending.FAILED, f"exit code {result.exit_code}: {said}"
    return Ending.SUCCESS, ""


@asynccontextmanager
async def _alive(message: Msg) -> AsyncIterator[None]:
    """Tell during the block that the item is worked on, so that it is offered to nobody else."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_ALIVE_SECONDS)
            try:
                await message.in_progress()
            except (NatsError, OSError) as error:
                log.debug("no beat: %s", error)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


async def _offer_again(message: Msg, delay: float | None = None) -> None:
    try:
        await message.nak(delay=delay)
    except (NatsError, OSError) as error:  # it is offered again when nothing is heard of it
        log.debug("not given back: %s", error)


def _identity(home: Path) -> str:
    """An id of this state directory: after a restart its own claims are found by it."""
    path = home / _IDENTITY
    (home / DELIVERED).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_atomically(path, uuid4().hex)
    return path.read_text()
