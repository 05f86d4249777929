"""Where the services of a stack answer, under the names that `Settings` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TEMPORAL_ADDRESS = "TEMPORAL_ADDRESS"
WEB_UI = "AGOG_WEB_UI"
NATS_URL, NATS_USER, NATS_PASSWORD = "NATS_URL", "NATS_USER", "NATS_PASSWORD"
DATABASE_URL = "DATABASE_URL"


@dataclass(frozen=True)
class StackAddresses:
    """Everything a client needs; None where a service named by the environment needs none."""

    temporal_address: str
    web_ui: str | None
    nats_url: str
    nats_user: str | None
    nats_password: str | None = field(repr=False)
    database_url: str = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> "StackAddresses":
        """Read the environment's names. Raises: KeyError if an address is missing."""
        return cls(
            temporal_address=settings[TEMPORAL_ADDRESS],
            web_ui=settings.get(WEB_UI),
            nats_url=settings[NATS_URL],
            nats_user=settings.get(NATS_USER),
            nats_password=settings.get(NATS_PASSWORD),
            database_url=settings[DATABASE_URL],
        )
