"""The health of a worker over HTTP on loopback, `/livez` and `/readyz`, for probes and people."""

import asyncio
import errno
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from adapters.files import PRIVATE_FILE, write_atomically
from adapters.health_probe import WORKER_FILE
from adapters.readiness import DependencyStatus, WatchedDependencies
from pipeline.errors import RefusedInput

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
SCHEMA_VERSION = 1

_REQUEST_BYTES = 8_192
_REQUEST_SECONDS = 5.0
_READ_ONLY = ("GET", "HEAD")


@dataclass(frozen=True)
class WorkerFacts:
    """What `/readyz` says besides the dependencies.

    `slots` returns how many slots are used, and their limit.
    """

    installation: str
    host: str
    version: str
    project: str
    """The path of the repository that it works on; empty for none."""
    slots: Callable[[], tuple[int, int]] = field(repr=False)


@asynccontextmanager
async def health_endpoint(
    port: int, readiness: WatchedDependencies, facts: WorkerFacts
) -> AsyncIterator[str]:
    """Serve until the block ends; yields the address.

    If another worker of this machine has the port, any free one is used.

    Raises: RefusedInput for a port that this user may not use.
    """
    server = await _listen(port, _Health(readiness, facts).serve)
    try:
        actual = server.sockets[0].getsockname()[1]
        if actual != port:
            log.warning("Port %d of AGOG_HEALTH_PORT is taken: health is on %d", port, actual)
        yield f"http://{LOOPBACK}:{actual}"
    finally:
        server.close()


@contextmanager
def worker_file(home: Path, facts: WorkerFacts, address: str | None) -> Iterator[None]:
    """Record in the state directory, for the block, that a worker lives and where it answers.

    `address` is None if its endpoint is switched off.
    """
    path = home / WORKER_FILE
    document = {
        "schema_version": SCHEMA_VERSION,
        "pid": os.getpid(),
        "installation": facts.installation,
        "host": facts.host,
        "version": facts.version,
        "project": facts.project,
        "health": address,
    }
    write_atomically(path, json.dumps(document, indent=2) + "\n", mode=PRIVATE_FILE)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def _listen(port: int, serve: Serve) -> asyncio.Server:
    try:
        return await asyncio.start_server(serve, LOOPBACK, port, limit=_REQUEST_BYTES)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            reason = f"Port {port} of AGOG_HEALTH_PORT cannot be used: {error.strerror}."
            raise RefusedInput(reason) from error
        return await asyncio.start_server(serve, LOOPBACK, 0, limit=_REQUEST_BYTES)


class _Health:
    """Answers one request per connection, bounded in size and time."""

    def __init__(self, readiness: WatchedDependencies, facts: WorkerFacts) -> None:
        self._readiness = readiness
        self._facts = facts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                writer.write(await self._answer(reader))
                await writer.drain()
        except (TimeoutError, ConnectionError):
            log.debug("A health request was given up")  # only the client loses by it
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return _response(HTTPStatus.BAD_REQUEST, {"error": "no request of ours"})
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        status, document = self._document(method, rest.partition(" ")[0].partition("?")[0])
        return _response(status, document, with_body=method != "HEAD")

    def _document(self, method: str, path: str) -> tuple[HTTPStatus, Mapping[str, object]]:
        if method not in _READ_ONLY:
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "read only"}
        if path == "/livez":
            return HTTPStatus.OK, {"live": True}
        if path != "/readyz":
            return HTTPStatus.NOT_FOUND, {"error": "there are /livez and /readyz"}
        is_ready = self._readiness.is_ready
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, self._readiness_document(is_ready)

    def _readiness_document(self, is_ready: bool) -> Mapping[str, object]:
        used, limit = self._facts.slots()
        return {
            "schema_version": SCHEMA_VERSION,
            "ready": is_ready,
            "installation": self._facts.installation,
            "host": self._facts.host,
            "version": self._facts.version,
            "slots": {"used": used, "limit": limit},
            "dependencies": [_status_document(each) for each in self._readiness.statuses],
        }


def _status_document(status: DependencyStatus) -> Mapping[str, object]:
    latency = status.latency_seconds
    return {
        "name": status.name,
        "address": status.address,
        "ok": status.is_well,
        "since": status.since.isoformat(timespec="milliseconds"),
        "latency_ms": None if latency is None else round(latency * 1_000, 1),
        "problem": status.problem,
    }


def _response(
    status: HTTPStatus, document: Mapping[str, object], *, with_body: bool = True
) -> bytes:
    body = json.dumps(document, indent=2).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + (body if with_body else b"")
