import asyncio

import pytest

from adapters.waiting import within
from tests.eventually import PATIENCE_SECONDS


async def test_result_in_time_is_returned() -> None:
    assert await within(PATIENCE_SECONDS, asyncio.sleep(0, "done")) == "done"


async def test_error_of_the_work_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("no such host")

    with pytest.raises(ValueError, match="no such host"):
        await within(PATIENCE_SECONDS, fail())


async def test_work_that_does_not_let_go_is_not_waited_for() -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()
            raise ValueError("too late to be heard")

    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
            await within(0.05, stubborn())

    let_go.set()
    await asyncio.sleep(0)


async def test_cancelled_caller_cancels_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(within(60, work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()

    await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)
