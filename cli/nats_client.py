"""NATS alone, for commands that only read events."""

from adapters.nats import events as nats_events
from adapters.nats.events import NatsEventPublisher
from settings import Settings


async def events_client(settings: Settings) -> NatsEventPublisher:
    """A connection to NATS; close it in the end. Raises: DependencyUnavailable."""
    password = settings.nats_password
    return await nats_events.connect(
        settings.nats_url, settings.nats_user, password.get_secret_value() if password else None
    )


async def check_nats(settings: Settings) -> None:
    """Connect and leave. Raises: DependencyUnavailable."""
    client = await events_client(settings)
    await client.close()
