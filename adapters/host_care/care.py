"""The host's caretaker: a bounded look at every part, and each symptom sent to its part."""

import asyncio
from collections.abc import Sequence

from adapters.host_care.load import LoadCare
from adapters.host_care.parts import Part
from pipeline import remedies
from pipeline.errors import DependencyUnavailable, PermanentError, PipelineError, TransientError
from pipeline.model import Symptom

LOOK_SECONDS = 5.0
"""Until a part must have answered: a database that is down is reported within five seconds."""
ACT_SECONDS = 90.0
"""Until a treatment must be over: an agent may take its 15 s to end, a tree of files a minute."""
UNSEEN = "unseen"
"""Ends the subject of the symptom that a part cannot be looked at."""


class HostCare:
    """Implements `pipeline.ports.Caretaker` for one host, of one part for each sort of trouble."""

    def __init__(self, load: LoadCare, *others: Part) -> None:
        """Take the parts; `host_care` makes those of a real host."""
        self._load = load
        self._parts: tuple[Part, ...] = (load, *others)

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong on this host now; what cannot be looked at is a symptom too."""
        found = await asyncio.gather(*map(_look, self._parts))
        return tuple(symptom for symptoms in found for symptom in symptoms or ())

    async def is_over(self, symptom: Symptom) -> bool | None:
        """Whether the part that it is of does not find it any more; None while it cannot look.

        Raises: PermanentError for a symptom that is no host's.
        """
        part = self._part_of(symptom)
        found = await _look(part)
        return None if found is None else remedies.is_over(symptom, found, _unseen(part).key)

    async def act(self, symptom: Symptom) -> str:
        """Treat it once; what was done, in a sentence.

        Raises: PermanentError for a symptom that is no host's, otherwise as its part does, or
        TransientError if it took too long.
        """
        part = self._part_of(symptom)
        try:
            async with asyncio.timeout(ACT_SECONDS):
                return await _treat(part, symptom)
        except TimeoutError as error:
            raise TransientError(f"Not done within {ACT_SECONDS:g} s; it goes on later.") from error
        except OSError as error:
            raise TransientError(f"The host refused: {error}") from error

    async def relax(self) -> str:
        """Take back what was done against a load that is over, one step at a time.

        To be called at each patrol; what was done, in a sentence, empty if nothing.
        """
        return await self._load.relax()

    def _part_of(self, symptom: Symptom) -> Part:
        for part in self._parts:
            if part.kind is symptom.kind and symptom.subject.startswith(part.prefix):
                return part
        raise PermanentError(f"{symptom.kind} {symptom.subject} is not treated on this host.")


async def _look(part: Part) -> Sequence[Symptom] | None:
    """What a part sees; None if it cannot look, and the caretaker of the house finds out why."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await part.look()
    except DependencyUnavailable:
        return None
    except (PipelineError, OSError) as error:
        return (_unseen(part, str(error) or f"No answer within {LOOK_SECONDS:g} s."),)


def _unseen(part: Part, reason: str = "") -> Symptom:
    return Symptom(part.kind, part.component, f"{part.prefix}{UNSEEN}", reason)


async def _treat(part: Part, symptom: Symptom) -> str:
    if symptom.key != _unseen(part).key:
        return await part.act(symptom)
    await part.look()
    return "It can be looked at again."
