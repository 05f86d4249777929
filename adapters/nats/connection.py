"""Connections to NATS: refused at once, or reconnecting by themselves from then on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError

from adapters.waiting import cleaned
from pipeline.errors import DependencyUnavailable

log = logging.getLogger(__name__)

CONNECT_SECONDS = 4.0
"""A server that does not answer is reported within five (design, section 2, rule 1)."""

NAME = "NATS"
REMEDY = "Start it with `starter.py up`, or set NATS_URL, NATS_USER and NATS_PASSWORD."


@dataclass(frozen=True)
class NatsLogin:
    """Where NATS is, and how to sign in."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return address_of(self.url)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """A connection for the block, closed at its end. Raises: DependencyUnavailable."""
        client = await open_connection(self.url, self.user, self.password)
        try:
            yield client
        finally:
            await cleaned(client.close())


class _Connection(Client):
    """A client that can be closed whatever has become of its connection."""

    async def close(self) -> None:
        """Close it; what the server has not acknowledged is still owed."""
        with suppress(OSError):  # of a connection that is lost at this moment
            await super().close()


async def open_connection(url: str, user: str | None, password: str | None) -> Client:
    """Connect; from then on the client reconnects in the background forever.

    Raises: DependencyUnavailable.
    """
    client = _Connection()
    trouble = _Trouble()
    connecting = asyncio.ensure_future(
        client.connect(
            url,
            user=user,
            password=password,
            error_cb=trouble.report,
            reconnected_cb=trouble.end,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=2,
            # A server that hangs keeps the connection open: after two pings without an answer it is
            # dropped and retried every second, instead of whenever TCP notices.
            ping_interval=3,
            max_outstanding_pings=1,
        )
    )
    # The client itself would try forever; we take its first refusal as the answer.
    attempts = {connecting, trouble.first}
    try:
        await asyncio.wait(attempts, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        with unavailable(url):
            if not connecting.done():
                raise trouble.error or TimeoutError(f"no answer in {CONNECT_SECONDS:g} s")
            connecting.result()
    except BaseException:  # a cancelled caller must not leave it trying forever either
        await cleaned(_give_up(connecting, client))
        raise
    trouble.is_connected = True
    return client


async def close_connection(client: Client) -> None:
    """Disconnect; if the server is gone, that must not hide another error of the caller."""
    try:
        await client.close()
    except (NatsError, OSError) as error:
        log.debug("NATS was gone before the connection was closed: %s", error)


async def _give_up(connecting: asyncio.Future[None], client: Client) -> None:
    connecting.cancel()
    await asyncio.wait({connecting})
    await client.close()


async def settled(client: Client) -> None:
    """Wait until the server has received all that we sent, and we all that it sent.

    The client's own `flush` does not ensure that: its PING overtakes data that the client has not
    written yet. A message to ourselves comes after everything else.

    Raises: NatsError, also if no answer comes in time.
    """
    echo = await client.subscribe(client.new_inbox())
    try:
        await client.publish(echo.subject, b"")
        await echo.next_msg(timeout=CONNECT_SECONDS)
    finally:
        if not client.is_closed:
            await echo.unsubscribe()


@contextmanager
def unavailable(url: str) -> Iterator[None]:
    """Translate the errors of a server that is down, full or without JetStream."""
    try:
        yield
    except (NatsError, OSError) as error:  # TimeoutError is an OSError
        said = str(error) or type(error).__name__
        raise DependencyUnavailable(NAME, address_of(url), f"{REMEDY} ({said})") from error


def address_of(url: str) -> str:
    """Where the server is, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname or url}:{parts.port or 4222}"


class _Trouble:
    """Errors that the client reports: the answer while connecting, a log line afterwards.

    A reconnecting client repeats itself every second; each error is logged once until it is over.
    """

    def __init__(self) -> None:
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.is_connected = False
        self._said = ""

    async def report(self, error: Exception) -> None:
        if self.is_connected:
            self._say(str(error))
        elif not self.first.done():
            self.error = error
            self.first.set_result(None)

    def _say(self, reason: str) -> None:
        if reason != self._said:
            log.warning("NATS connection is in trouble: %s", reason)
        self._said = reason

    async def end(self) -> None:
        """The client has reconnected."""
        self._said = ""
