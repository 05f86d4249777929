"""Events on NATS JetStream: the port `EventPublisher`, its streams, and reading them back."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, DeliverPolicy, Header, PubAck
from nats.js.client import JetStreamContext

from adapters.nats_connection import close_connection, open_connection, unavailable
from adapters.nats_streams import ensure_stream
from pipeline.events import EVENT_PREFIX, STREAMS, Event

ACK_SECONDS = 5.0
"""How long the server may take to store what was sent."""

CHECK_SECONDS = 3.0
"""Within the four seconds in which a probe of a dependency must have its answer."""


async def connect(url: str, user: str | None, password: str | None) -> "NatsEventPublisher":
    """A publisher whose connection stands. Raises: DependencyUnavailable."""
    return NatsEventPublisher(await open_connection(url, user, password), url)


class NatsEventPublisher:
    """Publishes to JetStream, and reads what stands in its streams. Close it in the end."""

    def __init__(self, client: Client, url: str) -> None:
        """Take a connected client; `url` is for messages."""
        self._client = client
        self._jetstream = client.jetstream(timeout=ACK_SECONDS)
        self._url = url

    async def ensure_streams(self) -> None:
        """Create the streams, or bring them to what they must be.

        Raises: DependencyUnavailable; NotRepairable for a shape that a stream cannot get any more.
        """
        with unavailable(self._url):
            self._check_connected()
            for stream in STREAMS:
                await ensure_stream(self._jetstream, stream)

    async def check(self) -> None:
        """Let a connection pass that stands, and whose server answers a request.

        One on which no answer comes is given up: what swallows everything is never reported.

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
        """Send in order, without waiting in between, and wait until every one is stored.

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

        Ends with what is there now, unless it is to follow. Raises: DependencyUnavailable.
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
        with suppress(NatsError, OSError):  # what was not sent stands in the outbox
            if self._client.is_connected:
                await self._client.drain()
        await close_connection(self._client)

    async def _send(self, event: Event) -> asyncio.Future[PubAck]:
        payload = json.dumps(event.payload, ensure_ascii=False, separators=(",", ":"))
        return await self._jetstream.publish_async(
            event.subject, payload.encode(), headers={Header.MSG_ID: event.event_id}
        )

    def _check_connected(self) -> None:
        # The client would buffer and let us wait for an acknowledgement that cannot come.
        if not self._client.is_connected:
            raise ConnectionError("the connection is lost and not yet back")


async def _length(subscription: JetStreamContext.PushSubscription) -> int:
    """How many messages the consumer will have delivered when it has caught up with now."""
    info = await subscription.consumer_info()
    delivered = info.delivered.consumer_seq if info.delivered else 0
    return delivered + (info.num_pending or 0)
