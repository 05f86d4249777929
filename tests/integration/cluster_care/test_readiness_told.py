"""Of each outage somebody is told once, as soon as that can be done."""

import asyncio

import pytest

from adapters import readiness
from adapters.readiness import Dependency, WatchedDependencies
from pipeline.errors import DependencyUnavailable
from tests.eventually import eventually


async def test_each_outage_is_told_once_and_again_if_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "PAUSE_WHILE_DOWN_SECONDS", 0.01)
    is_away, asked, told = False, 0, list[str]()

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if is_away:
            raise DependencyUnavailable("NATS", "here", "Start it.")

    async def tell(name: str) -> None:
        told.append(name)
        if len(told) == 1:
            raise DependencyUnavailable("Temporal", "there", "Start it.")

    watched = WatchedDependencies((Dependency("NATS", "here", "Start it.", ask),), tell)
    watch = asyncio.create_task(watched.watch())
    for outage in (1, 2):
        is_away = True
        await eventually(lambda outage=outage: len(told) > outage, "an outage that is told of")  # type: ignore[misc] # bound per outage
        seen = asked
        await eventually(lambda seen=seen: asked > seen + 3, "further looks")  # type: ignore[misc] # bound per outage
        is_away = False
        await eventually(lambda: watched.is_ready, "its end")
    watch.cancel()
    await asyncio.wait({watch})

    assert told == ["NATS"] * 3
