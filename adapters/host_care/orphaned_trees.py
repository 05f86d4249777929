"""Clones of requirements that have ended."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.git.clone import CLONES
from adapters.host_care.parts import Requirements
from adapters.runs.inventory import folders, has_unended
from pipeline.ports import Workspaces

RELEASING = timedelta(minutes=10)
"""After its requirement's end a clone is no orphan yet: large ones take time to remove."""


class EndedClones:
    """Clones of requirements that have ended."""

    name = "clones"

    def __init__(self, home: Path, requirements: Requirements, workspaces: Workspaces) -> None:
        self._home = home.absolute()
        self._requirements = requirements
        self._workspaces = workspaces

    async def look(self) -> Mapping[str, str]:
        """Numbers of the requirements."""
        below = await asyncio.to_thread(folders, self._home / CLONES)
        numbers = await self._over(sorted(folder.name for folder in below))
        return dict.fromkeys(numbers, "its requirement has ended")

    async def end(self, name: str) -> str:
        """Remove them; what no ref holds yet is kept. Raises: GitFailed, ProjectRefused."""
        if not await self._over([name]):
            return f"{name} has not ended, or has a run without an end: its clones stay."
        await self._workspaces.release(name)
        return f"Removed the clones of {name}, which has ended."

    async def _over(self, numbers: Sequence[str]) -> Sequence[str]:
        if not numbers:
            return ()
        ended = await self._requirements.ended(numbers)
        until = datetime.now(UTC) - RELEASING
        long_ago = [number for number, at in ended.items() if at < until]
        return await asyncio.to_thread(_without_runs, self._home, long_ago)


def _without_runs(home: Path, numbers: Sequence[str]) -> Sequence[str]:
    return [number for number in numbers if not has_unended(home, number)]
