"""Restarts a server of the embedded stack from outside the process that keeps the stack."""

import asyncio
import time
from pathlib import Path

from adapters.local_stack.child import end_on_purpose, recorded_process
from adapters.local_stack.server import Server
from adapters.local_stack.stack import READY_SECONDS, ServerMember
from adapters.local_stack.state import StackState, is_embedded
from pipeline.errors import RefusedInput, ServerNotStarted

KEEPER_SECONDS = 20.0
"""How long the keeper may take: it restarts a server at once that was ended on purpose."""

_POLL_SECONDS = 0.1


class ServerRestarts:
    """Restarts servers of one state directory, never two on the same data.

    A running `starter.py up` restarts a server that ends. If `up` was killed, the stack's lock is
    free: the server is started here under that lock, and recorded for the next `up`.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: dict[str, ServerMember] = {}
        self._turn = asyncio.Lock()

    async def restart(self, server: Server, url: str) -> str:
        """End the server at that address if it lives, and see it started; says what was done.

        Raises: ServerNotStarted.
        """
        process = recorded_process(self._home, server.name)
        if process and (age := time.time() - process.create_time()) < READY_SECONDS:
            return f"{server.title} was started {age:.0f} s ago and is given time."
        state = StackState(self._home)
        async with self._turn:  # else a start of another server here would look like the keeper's
            try:
                state.acquire()
            except RefusedInput:
                pass  # its keeper lives
            else:
                try:
                    return await self._from_here(server, url, state.kept_ports())
                finally:
                    state.release()
        return await self._by_its_keeper(server)

    async def _by_its_keeper(self, server: Server) -> str:
        has_lived = await end_on_purpose(self._home, server.name)
        try:
            async with asyncio.timeout(KEEPER_SECONDS):
                while not recorded_process(self._home, server.name):  # noqa: ASYNC110 -- a file sets no Event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            reason = f"`starter.py up` has not done it within {KEEPER_SECONDS:.0f} s."
            raise ServerNotStarted(server.title, reason) from None
        return (
            f"{server.title} was {'ended' if has_lived else 'dead'}, and was started again by `up`."
        )

    async def _from_here(self, server: Server, url: str, ports: dict[str, int]) -> str:
        if not is_embedded(self._home, server.name, url):
            raise ServerNotStarted(server.title, "its stack was stopped. Run `starter.py up`.")
        await end_on_purpose(self._home, server.name)
        member = self._started.setdefault(server.name, ServerMember(server, self._home, ports))
        member.ports = {name: ports[name] for name in server.preferred_ports}
        await member.restart()
        return f"{server.title} was started without `starter.py up`, which was killed."
