"""What a run or a build has to itself on this host: ports, a temporary directory, names of its own.

Several of them test the same project at the same time. A block of ports is held by a socket that is
bound to the last of them: the kernel lets nobody else have it, whatever state directory, user or
installation it belongs to, and takes it back from a process that dies.
"""

import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock

from adapters.git.agent_files import remove_tree
from pipeline.errors import RefusedInput, TransientError
from pipeline.numbers import slug

BLOCK = 20
"""Ports of one block, the one that holds it included."""
TEMPORARY = "tmp"
"""Folder of the state directory with the temporary directories: short, for sockets lie in them."""

_FIRST_DESCRIPTOR = 10
"""A supervisor gets its descriptors below this."""
_LOWEST_PORT, _HIGHEST_PORT = 1024, 65_535
_NAME_LENGTH = 40
_RANGE = re.compile(r"(\d+)-(\d+)")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """Ports from `first` on; `guard` is the descriptor that holds them."""

    first: int
    guard: int


class RunResources:
    """The resources of one state directory's runs and builds. Its methods may block."""

    def __init__(self, home: Path, ports: str) -> None:
        """Hand out blocks of that range (`first-last`).

        Raises: RefusedInput if that is no range, or holds no block.
        """
        self._root = home.absolute() / TEMPORARY
        self._ports = _port_range(ports)
        self._blocks: dict[str, Block] = {}
        self._lock = Lock()

    def take(self, key: str) -> Mapping[str, str]:
        """The variables of what is called so (a run id, say); a repeat gives the same ones.

        Raises: TransientError if no block of ports is free.
        """
        directory = self._directory(key)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = self._free_block(key)
            first = self._blocks[key].first
        name = _name(key)
        return {
            "AGOG_PORT_BASE": str(first),
            "AGOG_PORT_COUNT": str(BLOCK - 1),
            "COMPOSE_PROJECT_NAME": name,
            "AGOG_DATABASE": name.replace("-", "_"),
            "TMPDIR": str(directory),
        }

    def guard(self, key: str) -> int:
        """The descriptor that holds the ports: whoever inherits it holds them as well."""
        return self._blocks[key].guard

    def hand_over(self, key: str) -> None:
        """Let somebody else hold the ports from now on: the supervisor that has inherited them."""
        with self._lock:
            block = self._blocks.pop(key, None)
        if block:
            os.close(block.guard)

    def release(self, key: str) -> None:
        """Give the ports back and remove the temporary directory; a repeat is harmless."""
        self.hand_over(key)
        self._remove(self._directory(key))

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove the temporary directories of everything else: a killed worker has left them."""
        kept = {self._directory(key) for key in keys}
        if self._root.is_dir():
            for directory in self._root.iterdir():
                if directory not in kept:
                    self._remove(directory)

    def _directory(self, key: str) -> Path:
        return self._root / _digest(key)

    def _remove(self, directory: Path) -> None:
        try:
            if os.path.lexists(directory):
                remove_tree(directory)
        except OSError as error:  # a container has written files of another owner, say
            log.warning("%s cannot be removed: %s", directory, error)

    def _free_block(self, key: str) -> Block:
        """The first free block from a place on that follows from the key: repeats find theirs."""
        firsts = self._ports
        start = int(_digest(key), 16) % len(firsts)
        for first in (*firsts[start:], *firsts[:start]):
            guard = _held(first)
            if guard is not None:
                return Block(first, guard)
        raise TransientError(
            f"No {BLOCK} ports in a row are free between {firsts[0]} and {firsts[-1] + BLOCK - 1}."
        )


def _port_range(text: str) -> range:
    """The first ports of its blocks."""
    match = _RANGE.fullmatch(text.strip())
    first, last = map(int, match.groups()) if match else (0, 0)
    if not _LOWEST_PORT <= first <= last <= _HIGHEST_PORT:
        raise RefusedInput(
            f"AGOG_RUN_PORTS: {text!r} is no range of ports such as 20000-32759, from "
            f"{_LOWEST_PORT} on."
        )
    found = range(first, last - BLOCK + 2, BLOCK)
    if not found:
        raise RefusedInput(f"AGOG_RUN_PORTS: {text!r} holds no {BLOCK} ports, what a run gets.")
    return found


def _held(first: int) -> int | None:
    """A descriptor that holds the block; None if somebody has it, or one of its ports."""
    *ports, last = range(first, first + BLOCK)
    guard = _bound(socket.AF_INET, last)
    if guard is None:
        return None
    with guard:
        if not all(map(_is_free, ports)):
            return None
        # Not one of the low numbers: a supervisor is given those by number.
        return fcntl.fcntl(guard.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)


def _is_free(port: int) -> bool:
    """Whether anything could listen on it now, on any address."""
    return all(_is_free_for(family, port) for family in _families())


def _is_free_for(family: socket.AddressFamily, port: int) -> bool:
    bound = _bound(family, port)
    if bound is None:
        return False
    bound.close()
    return True


def _families() -> Iterator[socket.AddressFamily]:
    yield socket.AF_INET
    if socket.has_ipv6:
        with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.bind(("::1", 0))
            yield socket.AF_INET6


def _bound(family: socket.AddressFamily, port: int) -> socket.socket | None:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("", port))
    except OSError:
        made.close()
        return None
    return made


def _name(key: str) -> str:
    """Lower-case letters, digits and hyphens: a name for Compose, and of a database."""
    number, _, rest = key.partition("/")
    told = slug(f"{number} {rest.partition('/')[2]}")[:_NAME_LENGTH].strip("-")
    return f"agog-{told}-{_digest(key)[:8]}"


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]
