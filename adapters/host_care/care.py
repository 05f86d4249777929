"""The host's caretaker: a bounded look at every part, and each symptom sent to its part."""

import asyncio
from collections.abc import Sequence

from adapters.host_care.load import LoadCare
from adapters.host_care.parts import Part
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
        self._seen: dict[Part, Sequence[Symptom]] = {}

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong on this host now; what cannot be looked at is a symptom too."""
        found = await asyncio.gather(*map(self._look, self._parts))
        return tuple(symptom for symptoms in found for symptom in symptoms)

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

    async def _look(self, part: Part) -> Sequence[Symptom]:
        """What a part sees; while it cannot see, what it saw last has not been found to be over."""
        last = self._seen.get(part, ())
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._seen[part] = await part.look()
        except DependencyUnavailable:
            return last  # a symptom of the house, whose caretaker finds it too
        except (PipelineError, OSError) as error:
            reason = str(error) or f"No answer within {LOOK_SECONDS:g} s."
            return (*last, Symptom(part.kind, part.component, f"{part.prefix}{UNSEEN}", reason))
        return self._seen[part]


async def _treat(part: Part, symptom: Symptom) -> str:
    if symptom.subject != f"{part.prefix}{UNSEEN}":
        return await part.act(symptom)
    await part.look()
    return "It can be looked at again."
