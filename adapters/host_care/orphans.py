"""What has outlived what it was for: each sort of it is a part of the host's care."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.model import Symptom, SymptomKind


class Sort(Protocol):
    """Finds and removes orphans of one sort; `name` stands before each one's own name."""

    name: str

    async def look(self) -> Mapping[str, str]:
        """Each orphan's name, with what makes it one. Raises: PipelineError, OSError."""

    async def end(self, name: str) -> str:
        """End or remove it if it still is an orphan; what was done. Raises: PipelineError."""


class OrphanCare:
    """Sees to the `ORPHAN`s of one sort; their subject is the sort, a colon, and their name."""

    kind = SymptomKind.ORPHAN
    component = "orphan"

    def __init__(self, sort: Sort) -> None:
        self.prefix = f"{sort.name}:"
        self._sort = sort

    async def look(self) -> Sequence[Symptom]:
        """Every orphan of the sort. Raises: as the sort does."""
        return tuple(
            Symptom(self.kind, self.component, f"{self.prefix}{name}", detail)
            for name, detail in (await self._sort.look()).items()
        )

    async def act(self, symptom: Symptom) -> str:
        """End or remove the orphan. Raises: as the sort does."""
        return await self._sort.end(symptom.subject.removeprefix(self.prefix))
