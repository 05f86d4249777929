"""The doctor's looks at what stands in the servers: streams, the schema, and what fails now."""

import asyncio
from dataclasses import asdict

from sqlalchemy import make_url

from adapters.migrate import Schema, schema
from adapters.nats_connection import unavailable
from adapters.nats_streams import find_flaw
from adapters.probes import PROBE_SECONDS, NatsLogin
from adapters.sdlc.database import address_of
from cli.checks import Finding, Kind, Look
from cli.documents import retry_document
from cli.holds_view import leftover_line, retry_lines
from cli.records import records
from hosting.sasha import nats_login
from pipeline.events import STREAMS, Stream
from settings import Settings

_REPAIR = "Sasha and the next start of a worker repair it."

_SCHEMAS = {
    Schema.CURRENT: Finding(detail="current"),
    Schema.BEHIND: Finding(detail="behind", advice=f"Migrations are missing. {_REPAIR}"),
    Schema.AHEAD: Finding(
        detail="newer", advice="A newer version of this program has migrated it: update this one."
    ),
}


def store_looks(settings: Settings) -> tuple[Look, ...]:
    """One look for each stream, and one for the migrations."""
    login = nats_login(settings)
    database = address_of(make_url(settings.database_url.get_secret_value()))
    return (
        *(_stream_look(login, stream) for stream in STREAMS),
        Look("Migrations", Kind.DEPENDENCY, database, lambda: _migrations(settings)),
        Look("Retries", Kind.CONFIGURATION, database, lambda: _retries(settings)),
        Look("Leftovers", Kind.CONFIGURATION, database, lambda: _leftovers(settings)),
    )


def _stream_look(login: NatsLogin, stream: Stream) -> Look:
    return Look(
        f"Stream {stream.name}",
        Kind.DEPENDENCY,
        login.address,
        lambda: _stream(login, stream),
    )


async def _stream(login: NatsLogin, stream: Stream) -> Finding:
    with unavailable(login.url):
        async with login.connected() as client:
            jetstream = client.jetstream(timeout=PROBE_SECONDS)
            if flaw := await find_flaw(jetstream, stream):
                return Finding(detail=flaw, advice=f"It {flaw}. {_REPAIR}", facts={"flaw": flaw})
            state = (await jetstream.stream_info(stream.name)).state
    facts = {"messages": state.messages, "bytes": state.bytes, "consumers": state.consumer_count}
    return Finding(
        detail=f"{state.messages} messages, {state.consumer_count} consumers", facts=facts
    )


async def _migrations(settings: Settings) -> Finding:
    url = settings.database_url.get_secret_value()
    return _SCHEMAS[await asyncio.to_thread(schema, url)]


async def _retries(settings: Settings) -> Finding:
    """What fails now is bounded and asks a human by itself: it is told, and counts as no fault."""
    async with records(settings) as reader:
        found = await reader.retries()
    told = "\n".join(retry_lines(found)) or "nothing fails now"
    return Finding(detail=told, facts={"retries": [retry_document(retry) for retry in found]})


async def _leftovers(settings: Settings) -> Finding:
    """What could not be cleaned up at the end of a requirement; its host goes on trying."""
    async with records(settings) as reader:
        found = await reader.leftovers()
    told = "\n".join(f"{each.number}: {leftover_line(each)}" for each in found)
    facts = {"leftovers": [asdict(each) for each in found]}
    return Finding(detail=told or "everything is cleaned up", facts=facts)
