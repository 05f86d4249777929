import asyncio

import pytest

from worker import until_either


async def broken() -> None:
    raise ValueError("no such column")


async def endless() -> None:
    await asyncio.Event().wait()


async def test_publisher_that_breaks_ends_the_worker_with_its_reason() -> None:
    with pytest.raises(ValueError, match="no such column"):
        await until_either(asyncio.Event(), asyncio.create_task(broken()))


async def test_worker_that_is_told_to_stop_ends_its_publisher() -> None:
    stop = asyncio.Event()
    stop.set()
    publisher = asyncio.create_task(endless())

    await until_either(stop, publisher)
    await asyncio.wait({publisher})

    assert publisher.cancelled()
