"""The health checks of one place, the cluster or a host: a remediator for each sort of trouble.

Every look is bounded, and every symptom is treated by the remediator that found it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from adapters.waiting import within
from pipeline import remedies
from pipeline.errors import DependencyUnavailable, PermanentError, PipelineError, TransientError
from pipeline.model import Symptom, SymptomKind

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""A remediator must have answered by then: a database that is down is reported within 5 s."""
UNSEEN = "unseen"
"""Ends the subject of the symptom that a remediator of a host cannot look."""


class Remediator(Protocol):
    """Finds and treats symptoms of some kinds whose subjects begin with `prefix`.

    `blind` is the symptom that it cannot look: while that lasts, nobody knows of the others.
    """

    kinds: frozenset[SymptomKind]
    prefix: str
    blind: Symptom

    async def look(self) -> Sequence[Symptom]:
        """Everything of those kinds that is wrong now.

        Raises: DependencyUnavailable if it cannot look and another remediator finds out why;
            otherwise PipelineError or OSError.
        """

    async def act(self, symptom: Symptom) -> str:
        """Treat it once; what was done, in a sentence. Raises: PipelineError."""


class Care:
    """Implements `pipeline.ports.Caretaker` for one place; one act takes `act_seconds` at most."""

    def __init__(self, *remediators: Remediator, act_seconds: float | None = None) -> None:
        self._remediators = remediators
        self._act_seconds = act_seconds

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong there now; a remediator that cannot look is a symptom too."""
        found = await asyncio.gather(*map(_look, self._remediators))
        return tuple(symptom for symptoms in found for symptom in symptoms or ())

    async def is_over(self, symptom: Symptom) -> bool | None:
        """Whether its remediator does not find it any more; None while that cannot look.

        Raises: PermanentError for a symptom that is not treated here.
        """
        remediator = self._remediator_of(symptom)
        found = await _look(remediator)
        return None if found is None else remedies.is_over(symptom, found, remediator.blind.key)

    async def act(self, symptom: Symptom) -> str:
        """Treat it once; what was done, in a sentence.

        Raises: PermanentError for a symptom that is not treated here, otherwise as its remediator
            does, or TransientError if it took too long.
        """
        remediator = self._remediator_of(symptom)
        try:
            async with asyncio.timeout(self._act_seconds):
                if not symptom.subject.endswith(UNSEEN):
                    return await remediator.act(symptom)
                await remediator.look()
                return "It can be looked at again."
        except TimeoutError as error:
            raise TransientError("Not done in time; it goes on later.") from error
        except OSError as error:
            raise TransientError(f"The system refused: {error}") from error

    def _remediator_of(self, symptom: Symptom) -> Remediator:
        for each in self._remediators:
            if symptom.kind in each.kinds and symptom.subject.startswith(each.prefix):
                return each
        raise PermanentError(f"{symptom.kind} {symptom.subject} is not treated here.")


async def _look(remediator: Remediator) -> Sequence[Symptom] | None:
    """What it finds; None if it cannot look, and another remediator finds out why."""
    try:
        return await within(LOOK_SECONDS, remediator.look())
    except DependencyUnavailable as error:
        log.debug("Not looked at: %s", error)
        return None
    except (PipelineError, OSError) as error:  # TimeoutError is an OSError
        return (replace(remediator.blind, detail=str(error)),)
