"""The house as one place to look after: NATS, the SDLC database, the records."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from pipeline.model import Symptom, SymptomKind
from pipeline.ports import Caretaker


class Part(Caretaker, Protocol):
    """A part of the house with what it is responsible for."""

    @property
    def kinds(self) -> frozenset[SymptomKind]:
        """Its symptoms."""


class HouseCare:
    """Looks at all parts at once, and sends a symptom to the part that it is of."""

    def __init__(self, *parts: Part) -> None:
        """Look after these."""
        self._parts = parts
        self._by_kind = {kind: part for part in parts for kind in part.kinds}

    @property
    def kinds(self) -> frozenset[SymptomKind]:
        """Every symptom that is treated here."""
        return frozenset(self._by_kind)

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong there now; each part is bounded to five seconds."""
        found = await asyncio.gather(*(part.look() for part in self._parts))
        return tuple(symptom for symptoms in found for symptom in symptoms)

    async def act(self, symptom: Symptom) -> str:
        """Do once what the remedy says; what was done, in a sentence. Raises: PipelineError."""
        return await self._by_kind[symptom.kind].act(symptom)
