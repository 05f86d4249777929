"""The disk as a worker sees it: noticed within seconds, and so is room on it again."""

import asyncio
from pathlib import Path

import pytest

from adapters.readiness import WatchedDependencies, disk
from pipeline.errors import NoRoom
from pipeline.model import disk_of
from tests.eventually import Stopwatch, eventually
from tests.full_disk import small_disk

SECONDS = 5.0


async def test_full_disk_is_noticed_and_told_once_and_room_on_it_too(tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(name: str) -> None:
        told.append(name)

    with small_disk(tmp_path / "disk", 8) as small:
        watched = WatchedDependencies([disk("host-1", small.path / "home", 0)], tell)
        watch = asyncio.create_task(watched.watch())
        await eventually(lambda: watched.statuses[0].latency_seconds is not None, "an answer")
        watched.check()

        small.fill()
        with Stopwatch() as noticed:
            await eventually(lambda: not watched.is_ready, "an outage noticed")
        with pytest.raises(NoRoom, match=r"disk of host-1 has no room: .* cannot be written to"):
            watched.check()
        await eventually(lambda: told == [disk_of("host-1")], "Sasha is called")
        small.empty()
        with Stopwatch() as back:
            await eventually(lambda: watched.is_ready, "its end noticed")

        watched.check()
        watch.cancel()
        await asyncio.wait({watch})
        assert noticed.seconds < SECONDS
        assert back.seconds < SECONDS
        assert not list(small.path.iterdir())
