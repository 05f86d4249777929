"""Events on NATS JetStream: the port `EventPublisher`, its streams, and reading them back."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    Header,
    PubAck,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServerError

from adapters.nats.connection import close_connection, open_connection, unavailable
from pipeline.errors import NotRepairable
from pipeline.events import EVENT_PREFIX, RETENTION, STREAMS, Event, Stream

ACK_SECONDS = 5.0
"""How long the server may take to store what was sent."""

CHECK_SECONDS = 3.0
"""Within the four seconds in which a probe of a dependency must have its answer."""


async def connect(url: str, user: str | None, password: str | None) -> "NatsEventPublisher":
    """A connected publisher. Raises: DependencyUnavailable."""
    return NatsEventPublisher(await open_connection(url, user, password), url)


class NatsEventPublisher:
    """Publishes to JetStream, and reads its streams. Must be closed."""

    def __init__(self, client: Client, url: str) -> None:
        """Take a connected client; `url` is for messages."""
        self._client = client
        self._jetstream = client.jetstream(timeout=ACK_SECONDS)
        self._url = url

    async def ensure_streams(self) -> None:
        """Create the streams, or repair their configuration.

        Raises: DependencyUnavailable; NotRepairable if a stream cannot be changed to that.
        """
        with unavailable(self._url):
            self._check_connected()
            for stream in STREAMS:
                await ensure_stream(self._jetstream, stream)

    async def check(self) -> None:
        """Check that the connection is up and its server answers a request.

        A connection without an answer is dropped: a hung server would never be reported.

        Raises: DependencyUnavailable.
        """
        with unavailable(self._url):
            self._check_connected()
            try:
                await self._client.jetstream(timeout=CHECK_SECONDS).account_info()
            except NatsTimeout:
                await self._client.force_reconnect()
                raise

    async def publish(self, events: Sequence[Event]) -> None:
        """Send in order without waiting in between, then wait until every event is stored.

        JetStream drops an event that it already has, by its id.

        Raises: DependencyUnavailable if any was not acknowledged.
        """
        acknowledgements: list[asyncio.Future[PubAck]] = []
        with unavailable(self._url):
            self._check_connected()
            try:
                for event in events:
                    acknowledgements.append(await self._send(event))
                await asyncio.wait_for(asyncio.gather(*acknowledgements), ACK_SECONDS)
            finally:
                for acknowledgement in acknowledgements:
                    acknowledgement.cancel()

    async def events(
        self,
        *,
        since: datetime | None = None,
        follow: bool = False,
        subject: str = f"{EVENT_PREFIX}.>",
    ) -> AsyncGenerator[Mapping[str, object], None]:
        """The events of a subject in order, from `since` or the oldest kept.

        Ends with the newest one unless `follow` is set. Raises: DependencyUnavailable.
        """
        policy = DeliverPolicy.BY_START_TIME if since else DeliverPolicy.ALL
        config = ConsumerConfig(deliver_policy=policy, opt_start_time=since)
        with unavailable(self._url):
            self._check_connected()
            subscription = await self._jetstream.subscribe(
                subject, ordered_consumer=True, config=config
            )
            try:
                left = await _length(subscription)
                while follow or left > 0:
                    message = await subscription.next_msg(timeout=None)
                    left -= 1
                    yield json.loads(message.data)
            finally:
                await subscription.unsubscribe()

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
        with suppress(NatsError, OSError):  # what was not sent is still in the outbox
            if self._client.is_connected:
                await self._client.drain()
        await close_connection(self._client)

    async def _send(self, event: Event) -> asyncio.Future[PubAck]:
        payload = json.dumps(event.payload, ensure_ascii=False, separators=(",", ":"))
        return await self._jetstream.publish_async(
            event.subject, payload.encode(), headers={Header.MSG_ID: event.event_id}
        )

    def _check_connected(self) -> None:
        # The client would buffer, and we would wait for an acknowledgement that cannot come.
        if not self._client.is_connected:
            raise ConnectionError("the connection is lost and not yet back")


async def _length(subscription: JetStreamContext.PushSubscription) -> int:
    """How many messages the consumer will have delivered once it has caught up."""
    info = await subscription.consumer_info()
    delivered = info.delivered.consumer_seq if info.delivered else 0
    return delivered + (info.num_pending or 0)


_NAME_IN_USE = 10058
"""JetStream's code for a stream that exists with another configuration."""
_NOT_UPDATABLE = 10052
"""JetStream's code for a configuration that an existing stream cannot be changed to."""

_SHAPE = (
    "storage",
    "retention",
    "discard",
    "discard_new_per_subject",
    "max_msgs",
    "max_msgs_per_subject",
    "max_bytes",
    "max_msg_size",
    "max_age",
    "duplicate_window",
    "no_ack",
    "sealed",
    "allow_direct",
)
"""What decides, besides the subjects, whether an event is kept and a repeat of it dropped."""


def configuration(stream: Stream) -> StreamConfig:
    """The configuration that the stream must have (design, section 6, "Subjects")."""
    seconds = RETENTION.total_seconds()
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_msgs=-1,
        max_bytes=-1,
        max_age=seconds,
        duplicate_window=seconds,
        allow_direct=stream.is_direct,
    )


async def find_flaw(jetstream: JetStreamContext, stream: Stream) -> str:
    """What is wrong with the stream on that server, in a phrase; empty if nothing is."""
    try:
        found = (await jetstream.stream_info(stream.name)).config
    except NotFoundError:
        return "is missing"
    wanted = configuration(stream)
    flaws = [
        f"has {name} {_plain(getattr(found, name))} instead of {_plain(getattr(wanted, name))}"
        for name in _SHAPE
        if getattr(found, name) != getattr(wanted, name)
    ]
    if sorted(found.subjects or ()) != sorted(stream.subjects):
        flaws.append("takes other subjects")
    return ", ".join(flaws)


async def ensure_stream(jetstream: JetStreamContext, stream: Stream) -> None:
    """Create the stream, or repair its configuration. Raises: NotRepairable."""
    config = configuration(stream)
    try:
        await jetstream.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:
            raise _refusal(stream, "cannot be created", error) from error
        await _update(jetstream, stream, config)


async def _update(jetstream: JetStreamContext, stream: Stream, config: StreamConfig) -> None:
    try:
        await jetstream.update_stream(config)
    except (BadRequestError, ServerError) as error:
        if error.err_code != _NOT_UPDATABLE:
            raise
        flaw = await find_flaw(jetstream, stream)
        raise _refusal(stream, f"{flaw}, and cannot be changed", error) from error


def _refusal(stream: Stream, problem: str, error: APIError) -> NotRepairable:
    return NotRepairable(
        f"Stream {stream.name} {problem}: NATS says {error.description!r}. Copy what it holds and"
        " remove what is in the way (`nats stream ls`); it is then created again."
    )


def _plain(value: object) -> str:
    return str(getattr(value, "value", value))
