"""`stack.json` and the lock: which stack runs on a state directory, and where it answers."""

import fcntl
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.files import PRIVATE_FILE
from adapters.local_stack.addresses import StackAddresses
from adapters.local_stack.files import make_private_directory, write_private
from adapters.local_stack.identity import ProcessIdentity, identify
from pipeline.errors import RefusedInput

SCHEMA_VERSION = 1
_IDENTITY = ("pid", "create_time", "boot_id")
_NOBODY = ProcessIdentity(pid=0, create_time=0.0, boot_id="")


def read_stack(home: Path) -> StackAddresses | None:
    """Addresses of the stack that runs on that state directory; None if none does."""
    document = _read(home)
    if not document or not document["settings"]:
        return None
    owner = _identity(document)
    return StackAddresses.from_settings(document["settings"]) if owner.process() else None


def is_embedded(home: Path, server: str, url: str) -> bool:
    """Whether the stack itself has that server, at that address; also if its keeper was killed.

    No longer after a clean end: a server that its user has stopped is not ours to start.
    """
    document = _read(home) or {}
    return server in document.get("servers", ()) and url in document["settings"].values()


@dataclass(frozen=True)
class Keeper:
    """The process that keeps a stack, as a worker of that stack watches it."""

    home: Path
    identity: ProcessIdentity

    @classmethod
    def of(cls, home: Path, addresses: Collection[str]) -> "Keeper | None":
        """Who keeps the stack on that directory that answers there; None if none does.

        A worker that was told of other servers is not of the stack.
        """
        document = _read(home)
        if not document or set(addresses).isdisjoint(document["settings"].values()):
            return None
        return cls(home, _identity(document))

    @property
    def has_gone(self) -> bool:
        """Whether the process has ended, or keeps the stack no longer."""
        return self.identity.process() is None or self._named() != self.identity

    @property
    def is_replaced(self) -> bool:
        """Whether another living process keeps a stack on the directory."""
        named = self._named()
        return named != self.identity and named.process() is not None

    def _named(self) -> ProcessIdentity:
        document = _read(self.home)
        return _identity(document) if document else _NOBODY


class StackState:
    """The state directory, held by at most one stack at a time."""

    def __init__(self, home: Path) -> None:
        """Take the state directory; it is made if it is not there."""
        self._home = make_private_directory(home)
        self._lock: int | None = None

    def acquire(self) -> None:
        """Hold the directory. Raises: RefusedInput with the address of the stack that does."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self._home / "stack.lock", flags, PRIVATE_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RefusedInput(self._refusal()) from None
        self._lock = lock

    def release(self) -> None:
        """Let go of the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def kept_ports(self) -> dict[str, int]:
        """Where the servers of the last stack listened."""
        document = _read(self._home)
        return dict(document["ports"]) if document else {}

    def publish(
        self, settings: Mapping[str, str], ports: Mapping[str, int], servers: Sequence[str]
    ) -> None:
        """Tell every command of this user where the running stack answers, with which servers."""
        self._write(identify(os.getpid()) or _NOBODY, settings, ports, servers)

    def withdraw(self) -> None:
        """Keep the ports for the next stack, and nothing else."""
        self._write(_NOBODY, {}, self.kept_ports())

    def _write(
        self,
        identity: ProcessIdentity,
        settings: Mapping[str, str],
        ports: Mapping[str, int],
        servers: Sequence[str] = (),
    ) -> None:
        document = {
            "schema_version": SCHEMA_VERSION,
            **asdict(identity),
            "settings": dict(settings),
            "ports": dict(ports),
            "servers": list(servers),
        }
        write_private(_path(self._home), json.dumps(document, indent=2) + "\n")

    def _refusal(self) -> str:
        first = read_stack(self._home)
        where = (
            f"Temporal at {first.temporal_address}, Web UI at {first.web_ui}"
            if first
            else "it is still starting"
        )
        return (
            f"A stack already runs on {self._home}: {where}."
            " Use it, stop it, or set AGOG_HOME to another directory."
        )


def _identity(document: Mapping[str, Any]) -> ProcessIdentity:
    return ProcessIdentity(**{key: document[key] for key in _IDENTITY})


def _path(home: Path) -> Path:
    return home / "stack.json"


def _read(home: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(_path(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise RefusedInput(f"{_path(home)} is no JSON ({error}). Remove it.") from error
    return document
