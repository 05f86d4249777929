"""Plain asyncio: the same stages with nothing durable. What the machine's timers alone allow."""

import asyncio

from bench.shape import STEPS, scaled


async def run_requirement(minute_seconds: float) -> None:
    """Take one requirement through all groups."""
    for group in STEPS:
        await asyncio.gather(*(_run_step(seconds) for _, seconds in scaled(group, minute_seconds)))


async def _run_step(seconds: float) -> None:
    await asyncio.sleep(seconds)
