"""Connections to Temporal, NATS and the SDLC database.

Each answers within five seconds, or is refused with its name, its address and what to do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from temporalio.client import Client
from temporalio.runtime import Runtime

from adapters.installation import establish
from adapters.sdlc.reader import SdlcReader, create_reader
from adapters.sdlc.store import PostgresSdlcStore, create_store
from adapters.temporal.client import connect, quiet_runtime
from adapters.temporal.messages import TemporalNotifier
from cli.events import events_client
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from settings import Settings

_CORE_LOG = "temporal.core"


@asynccontextmanager
async def records(settings: Settings) -> AsyncIterator[SdlcReader]:
    """The SDLC database alone, to read. Reads raise DependencyUnavailable."""
    reader = create_reader(settings.database_url.get_secret_value())
    try:
        yield reader
    finally:
        await reader.close()


async def temporal_client(settings: Settings) -> Client:
    """Temporal alone. Raises: DependencyUnavailable."""
    # by default its core logs to stdout, at length, what we report in one sentence
    logging.getLogger(_CORE_LOG).setLevel(logging.CRITICAL)
    Runtime.set_default(quiet_runtime(_CORE_LOG), error_if_already_set=False)
    return await connect(settings.temporal_address)


@dataclass(frozen=True)
class Services:
    """Everything that a command needs which starts or steers a requirement."""

    temporal: Client
    store: PostgresSdlcStore
    reader: SdlcReader
    installation: Installation


@asynccontextmanager
async def services(settings: Settings) -> AsyncIterator[Services]:
    """All three dependencies, once each has answered, and the installation they belong to.

    Raises: DependencyUnavailable for the first that does not answer, with the others in its
        notes; WrongInstallation if this Temporal belongs to another installation.
    """
    database_url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        store, reader = create_store(database_url), create_reader(database_url)
        stack.push_async_callback(store.close)
        stack.push_async_callback(reader.close)
        temporal = asyncio.create_task(temporal_client(settings))
        await _all_or_refuse(temporal, store.check(), _check_nats(settings))
        identity = await establish(temporal.result(), store.database)
        yield Services(temporal.result(), store, reader, identity.installation)


async def _check_nats(settings: Settings) -> None:
    await (await events_client(settings)).close()


async def _all_or_refuse(*checks: Awaitable[object]) -> None:
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    # any other error is worse than a missing dependency: it goes first
    errors.sort(key=lambda error: isinstance(error, DependencyUnavailable))
    for other in errors[1:]:
        errors[0].add_note(str(other))
    if errors:
        raise errors[0]


async def notify_paused(connected: Services) -> None:
    """Notify every paused requirement that may continue. Raises: DependencyUnavailable."""
    await TemporalNotifier(connected.temporal).notify(await connected.store.to_notify())
