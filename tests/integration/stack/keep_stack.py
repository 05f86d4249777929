"""A stack in a process of its own, for tests that kill it: `keep_stack.py HOME`."""

import asyncio
import sys
from pathlib import Path

from adapters.local_stack import LocalStack


async def keep(home: Path) -> None:
    stack = LocalStack(home)
    async with stack:
        await stack.watch(print)


asyncio.run(keep(Path(sys.argv[1])))
