"""How an installation signs in to its servers, from its settings."""

from adapters.nats.connection import NatsLogin
from settings import Settings


def nats_login(settings: Settings) -> NatsLogin:
    """How this installation signs in to NATS."""
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return NatsLogin(settings.nats_url, settings.nats_user, password)
