"""The house as one place to look after: NATS, the SDLC database, the records."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from pipeline import remedies
from pipeline.errors import DependencyUnavailable
from pipeline.model import Symptom, SymptomKind

log = logging.getLogger(__name__)


class Part(Protocol):
    """A part of the house with what it is responsible for."""

    @property
    def kinds(self) -> frozenset[SymptomKind]:
        """Its symptoms."""

    @property
    def blind(self) -> tuple[str, str]:
        """The key of that symptom which hides the others: it could not look."""

    async def look(self) -> Sequence[Symptom]:
        """Everything of those kinds that is wrong now.

        Raises: DependencyUnavailable if it cannot look and another part finds out why.
        """

    async def act(self, symptom: Symptom) -> str:
        """Do once what the remedy says; what was done. Raises: PipelineError."""


class HouseCare:
    """Looks at all parts at once, and sends a symptom to the part that it is of."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts
        self._by_kind = {kind: part for part in parts for kind in part.kinds}

    @property
    def kinds(self) -> frozenset[SymptomKind]:
        """Every symptom that is treated here."""
        return frozenset(self._by_kind)

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong there now; each part is bounded to five seconds."""
        found = await asyncio.gather(*map(_look, self._parts))
        return tuple(symptom for symptoms in found for symptom in symptoms or ())

    async def is_over(self, symptom: Symptom) -> bool | None:
        """Whether the part that it is of does not find it any more; None while it cannot look."""
        part = self._by_kind[symptom.kind]
        found = await _look(part)
        return None if found is None else remedies.is_over(symptom, found, part.blind)

    async def act(self, symptom: Symptom) -> str:
        """Do once what the remedy says; what was done, in a sentence. Raises: PipelineError."""
        return await self._by_kind[symptom.kind].act(symptom)


async def _look(part: Part) -> Sequence[Symptom] | None:
    """What the part finds; None if it cannot look, and another part finds out why."""
    try:
        return await part.look()
    except DependencyUnavailable as error:
        log.debug("Not looked at: %s", error)
        return None
