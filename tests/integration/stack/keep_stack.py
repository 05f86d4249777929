"""A stack in a process of its own, for tests that kill it: `keep_stack.py HOME [TEMPORAL]`."""

import asyncio
import sys
from pathlib import Path

from adapters.local_stack import LocalStack


async def keep(home: Path, temporal_address: str | None = None) -> None:
    stack = LocalStack(home, temporal_address=temporal_address)
    async with stack:
        await stack.watch(print)


asyncio.run(keep(Path(sys.argv[1]), *sys.argv[2:]))
