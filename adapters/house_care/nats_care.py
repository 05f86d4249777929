"""NATS: whether it answers, and whether its streams are what they must be."""

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client

from adapters.house_care.restarts import DependencyRestart
from adapters.nats.connection import NatsLogin, unavailable
from adapters.nats.events import ensure_stream, find_flaw
from adapters.readiness import PROBE_SECONDS, probe_nats
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable
from pipeline.events import STREAMS, Stream
from pipeline.model import Symptom, SymptomKind

LOOK_SECONDS = 5.0
_COMPONENT = "nats"


class NatsCare:
    """Looks at NATS with connections of its own: those of the worker may be what is broken."""

    kinds = frozenset({SymptomKind.NATS_DOWN, SymptomKind.STREAMS_AMISS})
    blind = Symptom(SymptomKind.NATS_DOWN, _COMPONENT).key

    def __init__(self, login: NatsLogin, restart: DependencyRestart) -> None:
        self._login = login
        self._restart = restart

    async def look(self) -> Sequence[Symptom]:
        """NATS_DOWN, or one STREAMS_AMISS for each stream that has a flaw."""
        try:
            with unavailable(self._login.url):
                flaws = await within(LOOK_SECONDS, self._flaws())
        except DependencyUnavailable as error:
            return (Symptom(SymptomKind.NATS_DOWN, _COMPONENT, detail=str(error)),)
        return tuple(
            Symptom(SymptomKind.STREAMS_AMISS, _COMPONENT, stream.name, f"{stream.name} {flaw}.")
            for stream, flaw in zip(STREAMS, flaws, strict=True)
            if flaw
        )

    async def act(self, symptom: Symptom) -> str:
        """Restart the server, or repair the stream.

        Raises: DependencyUnavailable, NotRepairable.
        """
        if symptom.kind is SymptomKind.STREAMS_AMISS:
            return await self._repair(symptom.subject)
        try:
            await probe_nats(self._login)
        except DependencyUnavailable:
            return await self._restart.restart()
        return "NATS answers again."

    async def _flaws(self) -> list[str]:
        async with self._login.connected() as client:
            jetstream = client.jetstream(timeout=PROBE_SECONDS)
            await jetstream.account_info()
            return await asyncio.gather(*(find_flaw(jetstream, stream) for stream in STREAMS))

    async def _repair(self, name: str) -> str:
        (stream,) = (stream for stream in STREAMS if stream.name == name)
        with unavailable(self._login.url):
            async with self._login.connected() as client:
                return await _repaired(client, stream)


async def _repaired(client: Client, stream: Stream) -> str:
    jetstream = client.jetstream(timeout=PROBE_SECONDS)
    flaw = await find_flaw(jetstream, stream)
    if not flaw:
        return f"{stream.name} is as it must be."
    await ensure_stream(jetstream, stream)
    return f"{stream.name} {flaw}: brought to what it must be."
