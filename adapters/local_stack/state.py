"""`stack.json` and the lock: which stack runs on a state directory, and where it answers."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.files import PRIVATE_FILE, make_private_directory, try_lock, write_atomically
from adapters.local_stack.child import ProcessIdentity, identify
from pipeline.errors import RefusedInput

SCHEMA_VERSION = 1
_IDENTITY = ("pid", "create_time", "boot_id")
_NOBODY = ProcessIdentity(pid=0, create_time=0.0, boot_id="")

TEMPORAL_ADDRESS = "TEMPORAL_ADDRESS"
WEB_UI = "AGOG_WEB_UI"
NATS_URL, NATS_USER, NATS_PASSWORD = "NATS_URL", "NATS_USER", "NATS_PASSWORD"
DATABASE_URL = "DATABASE_URL"


@dataclass(frozen=True)
class StackAddresses:
    """Everything a client needs to connect; None where a user's own service needs none."""

    temporal_address: str
    web_ui: str | None
    nats_url: str
    nats_user: str | None
    nats_password: str | None = field(repr=False)
    database_url: str = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> "StackAddresses":
        """Read the environment's names. Raises: KeyError if an address is missing."""
        return cls(
            temporal_address=settings[TEMPORAL_ADDRESS],
            web_ui=settings.get(WEB_UI),
            nats_url=settings[NATS_URL],
            nats_user=settings.get(NATS_USER),
            nats_password=settings.get(NATS_PASSWORD),
            database_url=settings[DATABASE_URL],
        )


def read_stack(home: Path) -> StackAddresses | None:
    """Addresses of the stack that runs on that state directory; None if none does."""
    document = _read(home)
    if not document or not document["settings"]:
        return None
    owner = _identity(document)
    return StackAddresses.from_settings(document["settings"]) if owner.process() else None


def keeper_of(home: Path) -> ProcessIdentity | None:
    """The living process that keeps a stack on that state directory."""
    document = _read(home)
    keeper = _identity(document) if document and document["settings"] else _NOBODY
    return keeper if keeper.process() else None


def is_embedded(home: Path, server: str, url: str) -> bool:
    """Whether that server at that address belongs to the stack, even if its keeper was killed.

    No longer after a clean stop: a server that its user has stopped is not ours to start.
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
        """The keeper of the stack on that directory, if it answers at one of those addresses.

        A worker that uses other servers does not belong to the stack.
        """
        document = _read(home)
        if not document or set(addresses).isdisjoint(document["settings"].values()):
            return None
        return cls(home, _identity(document))

    @property
    def has_gone(self) -> bool:
        """Whether the process has ended, or no longer keeps the stack."""
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
    """The state directory, locked by at most one stack at a time."""

    def __init__(self, home: Path) -> None:
        """Make the state directory if it is not there."""
        self._home = make_private_directory(home)
        self._lock: int | None = None

    def acquire(self) -> None:
        """Lock the directory. Raises: RefusedInput with the address of the stack that has it."""
        self._lock = try_lock(self._home / "stack.lock")
        if self._lock is None:
            raise RefusedInput(self._refusal())

    def release(self) -> None:
        """Release the lock."""
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
        """Keep only the ports, for the next stack."""
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
        text = json.dumps(document, indent=2) + "\n"
        write_atomically(_path(self._home), text, mode=PRIVATE_FILE)

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
