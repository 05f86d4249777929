"""The desk: looks at every deliverable that comes in, and has it recorded as received or refused.

Who waits for a deliverable takes it from the stream without the desk; nobody waits for a stale or
a repeated one, and it must be seen all the same. The workers of an installation share one consumer,
which gives out one message after another.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import ValidationError

from adapters.nats.events import ACK_SECONDS
from adapters.remote.messages import Deliverable
from pipeline.errors import DependencyUnavailable
from pipeline.remote_work import ANSWER_STREAM, JUDGED_SUBJECTS, Received, Refusal

log = logging.getLogger("agog.deliverables")

Record = Callable[[Received], Awaitable[tuple[str, Refusal | None]]]
"""Records a deliverable; the requirement that it is about, empty if it is none of ours."""

_ASK_SECONDS = 20.0
_ACK_WAIT_SECONDS = 30.0
_AGAIN_SECONDS = 2.0


async def attend(
    client: Client, name: str, record: Record, publish: Callable[[str], Awaitable[int]]
) -> None:
    """Have every deliverable recorded, for ever. `name` is the consumer's, one an installation."""
    jetstream = client.jetstream(timeout=ACK_SECONDS)
    config = ConsumerConfig(
        durable_name=name,
        filter_subject=JUDGED_SUBJECTS,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=_ACK_WAIT_SECONDS,
        max_ack_pending=1,
    )
    while True:
        try:
            await jetstream.add_consumer(ANSWER_STREAM, config)
            pulled = await jetstream.pull_subscribe_bind(name, ANSWER_STREAM)
            while True:
                with suppress(NatsTimeout):
                    for message in await pulled.fetch(1, timeout=_ASK_SECONDS):
                        await _recorded(message, record, publish)
                        await message.ack()
        except (NatsError, OSError, DependencyUnavailable) as error:
            log.debug("The desk is away: %s", error)  # those who watch NATS and database tell it
            await asyncio.sleep(_AGAIN_SECONDS)


async def _recorded(message: Msg, record: Record, publish: Callable[[str], Awaitable[int]]) -> None:
    received = read(message)
    number, refusal = await record(received)
    if refusal and number:
        log.warning(
            "A deliverable on %s is refused: %s (message %s)",
            received.subject,
            refusal,
            received.key,
        )
    if number:
        await publish(number)


def read(message: Msg) -> Received:
    """What a message says that it is. Two messages have different keys, a redelivery the same."""
    metadata = message.metadata
    key = f"{metadata.sequence.stream}-{int(metadata.timestamp.timestamp() * 1000)}"
    try:
        named = Deliverable.model_validate_json(message.data).correlation
    except ValidationError:
        named = None
    subject = "".join(each if each.isprintable() else "\ufffd" for each in message.subject)
    return Received(key, subject, named)
