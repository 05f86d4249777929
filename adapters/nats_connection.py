"""One connection to NATS: refused at once, healing itself once it stood."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
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


async def open_connection(url: str, user: str | None, password: str | None) -> Client:
    """Connect; from then on the client reconnects in the background for ever.

    Raises: DependencyUnavailable.
    """
    client = Client()
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
            # A server that hangs leaves the connection standing: without an answer to two pings it
            # is given up, and tried anew every second, instead of whenever TCP tries again.
            ping_interval=3,
            max_outstanding_pings=1,
        )
    )
    # The client itself would try for ever: here its first refusal is the answer.
    attempts = {connecting, trouble.first}
    try:
        await asyncio.wait(attempts, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        with unavailable(url):
            if not connecting.done():
                raise trouble.error or TimeoutError(f"no answer in {CONNECT_SECONDS:g} s")
            connecting.result()
    except BaseException:  # a caller that is cancelled must not leave it trying for ever, either
        await cleaned(_give_up(connecting, client))
        raise
    trouble.stands = True
    return client


async def close_connection(client: Client) -> None:
    """Disconnect; a server that has gone meanwhile hides no other error of whoever ends."""
    try:
        await client.close()
    except (NatsError, OSError) as error:
        log.debug("NATS had gone before the connection was closed: %s", error)


async def _give_up(connecting: asyncio.Future[None], client: Client) -> None:
    connecting.cancel()
    await asyncio.wait({connecting})
    await client.close()


async def settled(client: Client) -> None:
    """Wait until the server has taken all that was sent, and all that it has sent is here.

    The client's own `flush` does not say that: its PING overtakes what the client has not yet
    written. A message to oneself comes behind everything.

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
    """Turn what a server that is down, full or without JetStream causes into its typed error."""
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
    """What the client reports: an answer while connecting, a log line afterwards.

    Reconnecting, it repeats itself every second: each trouble is said once until it is over.
    """

    def __init__(self) -> None:
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.stands = False
        self._said = ""

    async def report(self, error: Exception) -> None:
        if self.stands:
            self._say(str(error))
        elif not self.first.done():
            self.error = error
            self.first.set_result(None)

    def _say(self, reason: str) -> None:
        if reason != self._said:
            log.warning("NATS connection is in trouble: %s", reason)
        self._said = reason

    async def end(self) -> None:
        """The connection stands again."""
        self._said = ""
