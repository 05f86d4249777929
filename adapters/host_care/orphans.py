"""What has outlived what it was for, of every sort, as one kind of symptom."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.errors import PermanentError
from pipeline.model import Symptom, SymptomKind


class Sort(Protocol):
    """Finds and removes orphans of one sort; `name` stands before each one's own name."""

    name: str

    async def look(self) -> Mapping[str, str]:
        """Each orphan's name, with what makes it one. Raises: PipelineError, OSError."""

    async def end(self, name: str) -> str:
        """End or remove it if it still is an orphan; what was done. Raises: PipelineError."""


class OrphanCare:
    """Sees to `ORPHAN`; a subject is the sort, a colon, and the orphan's name."""

    kind = SymptomKind.ORPHAN
    component = "orphan"

    def __init__(self, *sorts: Sort) -> None:
        """Take the sorts."""
        self._sorts = {sort.name: sort for sort in sorts}

    async def look(self) -> Sequence[Symptom]:
        """Every orphan. Raises: as the sorts do."""
        found = await asyncio.gather(*(sort.look() for sort in self._sorts.values()))
        return tuple(
            Symptom(self.kind, self.component, f"{sort}:{name}", detail)
            for sort, orphans in zip(self._sorts, found, strict=True)
            for name, detail in orphans.items()
        )

    async def act(self, symptom: Symptom) -> str:
        """End or remove the orphan. Raises: PermanentError for a sort that is not known."""
        sort, _, name = symptom.subject.partition(":")
        if sort not in self._sorts:
            raise PermanentError(f"{symptom.subject!r} is no orphan that a host knows.")
        return await self._sorts[sort].end(name)
