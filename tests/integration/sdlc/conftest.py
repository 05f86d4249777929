from tests.fixtures_sdlc import (
    database_url,
    nats_publisher,
    nats_server,
    postgres_server,
    sdlc_reader,
    sdlc_store,
)

__all__ = [
    "database_url",
    "nats_publisher",
    "nats_server",
    "postgres_server",
    "sdlc_reader",
    "sdlc_store",
]
"""The fixtures of this area, where its tests are run alone."""
