"""A run of kind `nats` as its own program follows it: send the work, wait, lay what comes back.

Each step leaves a file in the run's directory, so that a program which is killed and started again
sends nothing twice and goes on where it stopped.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from adapters.agent_programs.nats import PROMPT_BY_SCHEMA as BY_SCHEMA_FILE
from adapters.files import write_atomically
from adapters.nats.connection import NatsLogin, open_connection
from adapters.remote import archive
from adapters.remote.channel import BrokenFiles, OrderChannel
from adapters.remote.messages import Claim, Deliverable, WorkItem
from adapters.remote.repository import clone_here, lay_into, write_base
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from adapters.runs.handover import hand_over
from adapters.runs.inventory import requirement_of
from pipeline.errors import DependencyUnavailable, GitFailed, ProjectRefused
from pipeline.remote_work import Refusal, mismatch

log = logging.getLogger(__name__)

Say = Callable[[dict[str, Any]], None]
"""Prints an event of the program's stream."""

SENT, RECEIVED = "work-item.json", "deliverable.json"
"""Files of the run's directory: what was sent, and what has come back and was laid there."""

ORDER_HOST = "order"
"""Claims an item that nobody is to start any more."""

_AGAIN_SECONDS = 2.0
_LOOK_SECONDS = 3.0
"""Between two looks at an item that nobody has claimed yet."""


@dataclass(frozen=True)
class RemoteRun:
    """One run, from wherever its program stopped before."""

    home: Path
    run: RunDirectory
    login: NatsLogin
    say: Say
    patience_seconds: float = 120.0
    """How long an item is left that no agent host takes: the time in which one is restarted."""

    async def follow(self) -> int:
        """Have the work done, once; the exit code of the program."""
        if not self._file(RECEIVED).exists():
            client = await self._connected()
            try:
                if not await self._have_done(OrderChannel(client)):
                    return 1
            except (BrokenFiles, GitFailed, ProjectRefused, OSError) as error:
                self.say({"type": "failed", "detail": str(error)})
                return 1
            finally:
                await client.close()
        self.say({"type": "result", "deliverable": json.loads(self._file(RECEIVED).read_text())})
        return 0

    async def stop(self) -> None:
        """Have nobody start the item any more, and whoever has started it end it."""
        if not self._file(SENT).exists() or self._file(RECEIVED).exists():
            return
        item = WorkItem.model_validate_json(self._file(SENT).read_text())
        client = await self._connected()
        try:
            channel = OrderChannel(client)
            held = await channel.claim(item, _withdrawal())
            if held.host_id != ORDER_HOST:
                await channel.send(item.model_copy(update={"type": "stop", "files": None}))
            self.say({"type": "stopped", "host": held.host})
        finally:
            await client.close()

    async def _connected(self) -> Client:
        """A connection; while the server is down it is tried again, until the run's deadline."""
        told = False
        while True:
            try:
                return await open_connection(self.login.url, self.login.user, self.login.password)
            except DependencyUnavailable as error:
                if not told:
                    self.say({"type": "waits", "detail": str(error)})
                told = True
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _have_done(self, channel: OrderChannel) -> bool:
        """Have the item done and its work laid here; False if nobody takes it."""
        with TemporaryDirectory(prefix="remote-", dir=self.run.path) as scratch:
            item = await self._sent(channel, Path(scratch))
            receiving = asyncio.create_task(self._receive(channel, item, Path(scratch)))
            watching = asyncio.create_task(self._why_withdrawn(channel, item))
            extending = asyncio.create_task(self._pass_on_extensions(channel, item))
            try:
                await asyncio.wait({receiving, watching}, return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done() and (why := watching.result()):
                    self.say({"type": "unserved", "detail": why})
                    return False
                await receiving
            finally:
                tasks = (receiving, watching, extending)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await self._tidy(channel, item)
        return True

    async def _receive(self, channel: OrderChannel, item: WorkItem, scratch: Path) -> None:
        async for message in channel.answers(item.agent.name, item.req_number):
            deliverable = self._accepted(item, message)
            if deliverable and await self._lay(channel, item, deliverable, scratch):
                write_atomically(self._file(RECEIVED), deliverable.encoded().decode())
                return

    async def _why_withdrawn(self, channel: OrderChannel, item: WorkItem) -> str:
        """Withdraw an item that no agent host takes, and say why; empty once one has claimed it."""
        alive_at = monotonic()
        while True:
            try:
                if claim := await channel.claimed(item):
                    self.say({"type": "claimed", "host": claim.host})
                    return self._words(claim, item) if claim.host_id == ORDER_HOST else ""
                if await channel.is_served(item.agent.name):
                    alive_at = monotonic()
                elif monotonic() - alive_at >= self.patience_seconds:
                    await channel.claim(item, _withdrawal())
            except (NatsError, OSError) as error:
                log.debug("Not looked at: %s", error)
                alive_at = monotonic()  # a server that is down hides who is there
            await asyncio.sleep(min(_LOOK_SECONDS, self.patience_seconds))

    def _words(self, withdrawal: Claim, item: WorkItem) -> str:
        """Why nobody starts an item any more: an agent host was too late for it, or none came."""
        name = item.agent.name
        if withdrawal.host:
            return f"When agent host {withdrawal.host} could start the work of {name}, it was late."
        return f"No agent host has taken the work of {name} for {self.patience_seconds:g} s."

    async def _pass_on_extensions(self, channel: OrderChannel, item: WorkItem) -> None:
        """Tell the agent host, for ever, when the run is given more time than it was told of."""
        told = item.deadline_seconds
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            *before, last = self.run.parts()
            order = last.order()
            allowed = sum(part.worked_seconds for part in before)
            allowed += last.deadline_seconds(order) if order else 0.0
            if allowed <= told:
                continue
            change = {"type": "extend", "deadline_seconds": allowed, "files": None}
            try:
                await channel.send(item.model_copy(update=change))
                told = allowed
            except (NatsError, OSError) as error:
                log.debug("An extension is sent again: %s", error)

    async def _tidy(self, channel: OrderChannel, item: WorkItem) -> None:
        try:
            await channel.forget_files(item.agent.name, item.item)
        except (NatsError, OSError) as error:  # the streams forget them in time
            log.warning("Files of %s stay in their streams: %s", item.item, error)

    async def _sent(self, channel: OrderChannel, scratch: Path) -> WorkItem:
        """The item, which is stored by now. Its files are sent once: the item names them."""
        kept = self._file(SENT)
        if not kept.exists():
            item = await self._packed(channel, scratch)
            write_atomically(kept, item.encoded().decode())
        item = WorkItem.model_validate_json(kept.read_text())
        self.say({"type": "sent", "item": item.item})
        while True:
            try:
                await channel.ensure_consumer(item.agent.name)
                await channel.send(item)
                return item
            except (NatsError, OSError) as error:
                log.warning("Sending the work item again: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _packed(self, channel: OrderChannel, scratch: Path) -> WorkItem:
        run, order = self.run, self.run.order()
        if order is None:
            raise ProjectRefused(f"Nothing of the order of {run.run_id} is left.")
        files = {
            archive.PROMPT: run.file(records.PROMPT),
            archive.PROMPT_BY_SCHEMA: self._file(BY_SCHEMA_FILE),
            archive.INBOX: run.inbox,
        }
        commit = ""
        if order.head:
            bundle = files[archive.BUNDLE] = scratch / archive.BUNDLE
            commit = await write_base(clone_here(self.home, Path(order.directory)), bundle)
        packed = scratch / "work.tar"
        await asyncio.to_thread(archive.pack, packed, files)
        _, _, rest = run.run_id.split("/", 2)
        stage, _, attempt = rest.rpartition("/")
        return WorkItem(
            item=order.session,
            run_id=run.run_id,
            req_number=requirement_of(run.run_id),
            stage=stage,
            agent=order.member,
            attempt=int(attempt),
            timestamp=datetime.now(UTC),
            deadline_seconds=order.deadline_seconds,
            grace_seconds=order.grace_seconds,
            commit=commit,
            position=order.head[1] if order.head else 0,
            directory=order.directory,
            run_directory=str(run.path),
            files=await channel.send_files(order.agent, order.session, packed),
        )

    def _accepted(self, item: WorkItem, message: Msg) -> Deliverable | None:
        """The deliverable of a message, if it is this run's; who records refusals is the desk."""
        try:
            deliverable = Deliverable.model_validate_json(message.data)
        except ValidationError:
            return None
        if deliverable.run_id != item.run_id:
            return None
        refusal = mismatch(item.correlation, deliverable.correlation)
        if refusal:
            self._refused(refusal, f"{deliverable.agent}, {deliverable.req_number}")
        return None if refusal else deliverable

    def _refused(self, why: Refusal, detail: str) -> None:
        self.say({"type": "refused", "why": str(why), "detail": detail[:500]})

    async def _lay(
        self, channel: OrderChannel, item: WorkItem, deliverable: Deliverable, scratch: Path
    ) -> bool:
        """Lay work and documents where an agent of this host would have left them.

        False if they are not those that the deliverable names.
        """
        if deliverable.files is None:
            return True
        received, place = scratch / "made.tar", scratch / "made"
        try:
            await channel.fetch_files(item.agent.name, item.item, deliverable.files, received)
            await asyncio.to_thread(rmtree, place, ignore_errors=True)
            await asyncio.to_thread(archive.unpack, received, place)
        except BrokenFiles as error:
            self._refused(Refusal.BROKEN_FILES, str(error))
            return False
        bundle = place / archive.BUNDLE
        if item.commit and bundle.is_file():
            await lay_into(clone_here(self.home, Path(item.directory)), bundle)
        await asyncio.to_thread(rmtree, self.run.outbox, ignore_errors=True)
        await asyncio.to_thread(hand_over, place / archive.OUTBOX, self.run.outbox)
        return True

    def _file(self, name: str) -> Path:
        return self.run.path / name


def _withdrawal() -> Claim:
    """Claims an item for nobody: whoever takes it finds that it is not to be started."""
    return Claim(host_id=ORDER_HOST, timestamp=datetime.now(UTC))


def run_of(home: Path, run_directory: Path) -> RunDirectory:
    """The run with that directory. Raises: ProjectRefused if nothing of it is left."""
    found = RunDirectory.at(home.joinpath("run-records", *run_directory.parts[-3:]))
    if found is None:
        raise ProjectRefused(f"{run_directory} is no run of {home}.")
    return found


def print_event(event: dict[str, Any]) -> None:
    """One line of the program's stream, at once."""
    os.write(1, f"{json.dumps(event, ensure_ascii=False)}\n".encode())
