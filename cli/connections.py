"""The three dependencies: reached within five seconds, or refused by name, address and remedy."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from temporalio.client import Client
from temporalio.runtime import Runtime

from adapters.installation import establish
from adapters.sdlc_reader import SdlcReader, create_reader
from adapters.sdlc_store import PostgresSdlcStore, create_store
from adapters.temporal.client import connect, quiet_runtime
from adapters.temporal.messages import TemporalWaker
from cli.nats_client import check_nats
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from settings import Settings

_CORE_LOG = "temporal.core"


@dataclass(frozen=True)
class Services:
    """What starting and steering need."""

    temporal: Client
    store: PostgresSdlcStore
    reader: SdlcReader
    installation: Installation


@asynccontextmanager
async def services(settings: Settings) -> AsyncIterator[Services]:
    """All three dependencies, each of which has just answered, and which installation they are.

    Raises: DependencyUnavailable for the first that does not, the others stand in its notes;
        WrongInstallation if Temporal belongs to another one.
    """
    database_url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        store, reader = create_store(database_url), create_reader(database_url)
        stack.push_async_callback(store.close)
        stack.push_async_callback(reader.close)
        temporal = asyncio.create_task(temporal_client(settings))
        await _all_or_refuse(temporal, store.check(), check_nats(settings))
        identity = await establish(temporal.result(), store.database)
        yield Services(temporal.result(), store, reader, identity.installation)


async def wake_held(connected: Services) -> None:
    """Tell everybody who is held and may go on. Raises: DependencyUnavailable."""
    await TemporalWaker(connected.temporal).wake(await connected.store.to_wake())


async def move_held(connected: Services) -> None:
    """Tell everybody who may go on, and whose agents must stand still, now that blockers moved.

    Raises: DependencyUnavailable.
    """
    await wake_held(connected)
    await TemporalWaker(connected.temporal).pre_empt(await connected.store.to_pre_empt())


async def temporal_client(settings: Settings) -> Client:
    """Temporal alone. Raises: DependencyUnavailable."""
    # its core logs to stdout unless told otherwise, and at length what we say in one sentence
    logging.getLogger(_CORE_LOG).setLevel(logging.CRITICAL)
    Runtime.set_default(quiet_runtime(_CORE_LOG), error_if_already_set=False)
    return await connect(settings.temporal_address)


async def _all_or_refuse(*checks: Awaitable[object]) -> None:
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    # what is no missing dependency is worse than one
    errors.sort(key=lambda error: isinstance(error, DependencyUnavailable))
    for other in errors[1:]:
        errors[0].add_note(str(other))
    if errors:
        raise errors[0]
