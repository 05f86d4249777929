"""Work items, deliverables, claims and files on JetStream, as both ends use them.

An agent host reads with what its login allows (`pipeline/agent_access.py`): it asks its consumer
for items and reads single messages by their subject. The order's end may do everything.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.client import JetStreamContext
from nats.js.errors import APIError

from adapters.nats.events import ACK_SECONDS
from adapters.remote.messages import Claim, Files, WorkItem
from pipeline.errors import PipelineError
from pipeline.remote_work import (
    ANSWER_STREAM,
    WORK_STREAM,
    answer_file,
    answer_subject,
    claim_subject,
    work_file,
    work_subject,
)

log = logging.getLogger(__name__)

ACK_WAIT_SECONDS = 6.0
"""How long a work item may be out without a sign of life from its agent host."""
MOST_FILE_BYTES = 2 * 1024**3
"""Of one archive: the history of a large project."""

_PIECE_BYTES = 512 * 1024
"""Of a file in one message; a server takes 1 MB unless it is told otherwise."""
_ASK_SECONDS = 20.0
_WRONG_LAST_SEQUENCE = 10071
"""JetStream's code for a message that was to be the first of its subject, and is not."""

Subject = Callable[[int], str]


class BrokenFiles(PipelineError):
    """Files that are not what their message says: a piece is missing, or another one."""


class OrderChannel:
    """The orchestrator's end."""

    def __init__(self, client: Client) -> None:
        """Take a connected client of the orchestrator's own login."""
        self._client = client
        self._jetstream = client.jetstream(timeout=ACK_SECONDS)

    async def ensure_consumer(self, agent: str) -> None:
        """Make the agent's durable consumer, from which its hosts pull; a repeat is harmless."""
        await self._jetstream.add_consumer(
            WORK_STREAM,
            ConsumerConfig(
                durable_name=agent,
                filter_subject=work_subject(agent),
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_SECONDS,
                max_deliver=-1,
            ),
        )

    async def send_files(self, agent: str, item: str, archive: Path) -> Files:
        """Store an archive beside its item, which is sent afterwards."""
        return await _put(self._jetstream, lambda n: work_file(agent, item, n), archive)

    async def send(self, item: WorkItem) -> None:
        """Store the item; JetStream drops a repeat by its id."""
        name = item.item
        if item.type != "stage.started":
            name += f":{item.type}:{item.deadline_seconds:g}"
        await self._jetstream.publish(
            work_subject(item.agent.name), item.encoded(), headers={Header.MSG_ID: name}
        )

    async def claim(self, item: WorkItem, mine: Claim) -> Claim:
        """Keep the item from being started; the claim that holds, which may be another one's."""
        return await _claim(self._client, self._jetstream, item, mine)

    async def claimed(self, item: WorkItem) -> Claim | None:
        """Who has claimed the item; None while nobody has."""
        found = await _direct(
            self._client, ANSWER_STREAM, claim_subject(item.agent.name, item.item)
        )
        return Claim.read(found) if found is not None else None

    async def is_served(self, agent: str) -> bool:
        """Whether an agent host asks for the agent's items, or has one in hand."""
        info = await self._jetstream.consumer_info(WORK_STREAM, agent)
        return bool(info.num_waiting or info.num_ack_pending)

    async def answers(self, agent: str, number: str) -> AsyncIterator[Msg]:
        """Every deliverable of the agent for that requirement, from the oldest, for ever.

        They are in the stream, whoever was waiting when they came.
        """
        seen = 0
        while True:
            policy = DeliverPolicy.BY_START_SEQUENCE if seen else DeliverPolicy.ALL
            config = ConsumerConfig(
                deliver_policy=policy,
                opt_start_seq=seen + 1 if seen else None,
                ack_policy=AckPolicy.NONE,
                inactive_threshold=2 * _ASK_SECONDS,
                mem_storage=True,
            )
            try:
                pulled = await self._jetstream.pull_subscribe(
                    answer_subject(agent, number), stream=ANSWER_STREAM, config=config
                )
                while True:
                    with suppress(NatsTimeout):
                        for message in await pulled.fetch(1, timeout=_ASK_SECONDS):
                            seen = message.metadata.sequence.stream
                            yield message
                    # After a time-out: a server that was restarted has forgotten the consumer.
                    await pulled.consumer_info()
            except (NatsError, OSError) as error:
                log.warning("Asking for deliverables again: %s", error)
                await asyncio.sleep(1.0)

    async def fetch_files(self, agent: str, item: str, files: Files, archive: Path) -> None:
        """Read what an agent host has stored. Raises: BrokenFiles."""
        subject: Subject = lambda n: answer_file(agent, item, n)  # noqa: E731
        await _get(self._client, ANSWER_STREAM, subject, files, archive)

    async def forget_files(self, agent: str, item: str) -> None:
        """Remove the files of an item, in both directions."""
        await self._jetstream.purge_stream(WORK_STREAM, subject=_all(work_file, agent, item))
        await self._jetstream.purge_stream(ANSWER_STREAM, subject=_all(answer_file, agent, item))


class HostChannel:
    """An agent host's end."""

    def __init__(self, client: Client) -> None:
        """Take a connected client with the login of its agents."""
        self._client = client
        self._jetstream = client.jetstream(timeout=ACK_SECONDS)

    async def items(self, agent: str) -> AsyncIterator[Msg]:
        """The agent's work items, for ever.

        Who takes one acknowledges it once its deliverable is stored.
        """
        told = ""
        while True:
            try:
                pulled = await self._jetstream.pull_subscribe_bind(agent, WORK_STREAM)
                while True:
                    for message in await pulled.fetch(1, timeout=_ASK_SECONDS):
                        told = ""
                        yield message
            except NatsTimeout:
                continue
            except (NatsError, OSError) as error:
                # Before the first item of all, nobody has made the agent's consumer.
                if told != str(error):
                    log.info("No work for %s yet: %s", agent, error)
                told = str(error)
                await asyncio.sleep(1.0)

    async def claim(self, item: WorkItem, mine: Claim) -> Claim:
        """Claim an item; the claim that holds, which may be another host's."""
        return await _claim(self._client, self._jetstream, item, mine)

    async def fetch_files(self, item: WorkItem, files: Files, archive: Path) -> None:
        """Read what was stored with the item. Raises: BrokenFiles."""
        subject: Subject = lambda n: work_file(item.agent.name, item.item, n)  # noqa: E731
        await _get(self._client, WORK_STREAM, subject, files, archive)

    async def send_files(self, item: WorkItem, archive: Path) -> Files:
        """Store what the agent has made, before the deliverable that names it."""
        return await _put(
            self._jetstream, lambda n: answer_file(item.agent.name, item.item, n), archive
        )

    async def deliver(self, item: WorkItem, deliverable: bytes) -> None:
        """Store a deliverable. It has no id: whoever waits takes the first one that fits."""
        subject = answer_subject(item.agent.name, item.req_number)
        await self._jetstream.publish(subject, deliverable)


async def _claim(client: Client, jetstream: JetStreamContext, item: WorkItem, mine: Claim) -> Claim:
    subject = claim_subject(item.agent.name, item.item)
    try:
        await jetstream.publish(
            subject, mine.encoded(), headers={Header.EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}
        )
    except APIError as error:
        if error.err_code != _WRONG_LAST_SEQUENCE:
            raise
        found = await _direct(client, ANSWER_STREAM, subject)
        if found is None:
            raise
        return Claim.read(found)
    return mine


async def _put(jetstream: JetStreamContext, subject: Subject, archive: Path) -> Files:
    found = (await asyncio.to_thread(archive.stat)).st_size
    if found > MOST_FILE_BYTES:
        raise BrokenFiles(f"Files of {found:,} bytes: at most {MOST_FILE_BYTES:,} can be sent.")
    digest, size, pieces = sha256(), 0, 0
    with archive.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            await jetstream.publish(subject(pieces), piece)
            digest.update(piece)
            size, pieces = size + len(piece), pieces + 1
    return Files(pieces=pieces, size=size, sha256=digest.hexdigest())


async def _get(client: Client, stream: str, subject: Subject, files: Files, archive: Path) -> None:
    if files.size > MOST_FILE_BYTES:
        raise BrokenFiles(f"Files of {files.size:,} bytes: at most {MOST_FILE_BYTES:,} are taken.")
    digest, size = sha256(), 0
    with archive.open("wb") as file:
        for n in range(files.pieces):
            piece = await _direct(client, stream, subject(n))
            if piece is None:
                raise BrokenFiles(f"Piece {n + 1} of {files.pieces} of its files is not there.")
            digest.update(piece)
            size += len(piece)
            if size > files.size:
                break
            await asyncio.to_thread(file.write, piece)
    if size != files.size or digest.hexdigest() != files.sha256:
        raise BrokenFiles("Its files are not those that it names.")


async def _direct(client: Client, stream: str, subject: str) -> bytes | None:
    """The latest message of a subject, read without a consumer; None if there is none."""
    found = await client.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", timeout=ACK_SECONDS)
    status = (found.headers or {}).get(Header.STATUS, "")
    return None if status.startswith("404") else found.data


def _all(subject: Callable[[str, str, int], str], agent: str, item: str) -> str:
    """The subjects of all pieces."""
    return f"{subject(agent, item, 0).rpartition('.')[0]}.>"
