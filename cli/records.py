"""The SDLC database alone, for commands that only read it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.sdlc.reader import SdlcReader, create_reader
from settings import Settings


@asynccontextmanager
async def records(settings: Settings) -> AsyncIterator[SdlcReader]:
    """A reader, closed when the block ends; its reads raise DependencyUnavailable."""
    reader = create_reader(settings.database_url.get_secret_value())
    try:
        yield reader
    finally:
        await reader.close()
