"""Ports for the tests' servers, which no other test and no program of the system is given.

Each process of tests has a block to itself, held as long as it lives by a socket that is bound to
its first port. The blocks lie below the range from which the system picks ports by itself, and
below those that runs and builds are given. So a port on which nobody listens stays like that until
its test listens there, also while the test's server is down.
"""

import os
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

_BLOCK = 500
_FIRSTS = range(10_000, 20_000, _BLOCK)


def own_port() -> int:
    """A port on which nobody listens, handed out to nobody else."""
    return own_ports(1).start


def own_ports(count: int) -> range:
    """That many of them in a row."""
    _, ports = _block(os.getpid())
    while True:
        found = list(islice(ports, count))
        if found[-1] == found[0] + count - 1 and all(map(is_free, found)):
            return range(found[0], found[-1] + 1)


@cache
def _block(pid: int) -> tuple[socket.socket, Iterator[int]]:
    """What holds the block of that process, and its other ports, round and round.

    A forked process has another pid, and so a block of its own.
    """
    start = pid % len(_FIRSTS)
    for first in (*_FIRSTS[start:], *_FIRSTS[:start]):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            guard.close()
            continue
        return guard, cycle(range(first + 1, first + _BLOCK))
    raise AssertionError(f"No block of {_BLOCK} ports is free from {_FIRSTS[0]} on.")


def is_free(port: int) -> bool:
    """Whether a server could listen there now, on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
