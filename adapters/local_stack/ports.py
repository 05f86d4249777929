"""Loopback ports: the wished one where it is free, any other where it is not."""

import socket
from collections.abc import Mapping

LOOPBACK = "127.0.0.1"


def choose_ports(wishes: Mapping[str, int]) -> dict[str, int]:
    """For each name its wished port, or a free one if somebody listens there or it is 0."""
    return {name: port if port and is_free(port) else _any_free() for name, port in wishes.items()}


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections still time out is free to listen on.
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
