"""How often Sasha looks, and how long what she has done is given to show."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from activities import sasha
from activities.sasha import SashaActivities
from adapters.care.memory import Memory, MemoryCare
from adapters.runs.slots import SlotLimit
from hosting.sasha import check_regularly, watch_memory
from pipeline.errors import DependencyUnavailable
from pipeline.model import Alert, AlertKind, SashaCall, Watch
from pipeline.ports import HostPorts
from tests.eventually import PATIENCE_SECONDS, eventually

ROW = Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", "REQ-1")


class Answers:
    """A health_checks whose answers a test has written down; the last one stays."""

    def __init__(self, *answers: bool | None) -> None:
        self._answers = list(answers)
        self.looks = 0

    async def is_over(self, alert: Alert) -> bool | None:
        self.looks += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def watched(care: Answers, seconds: float) -> bool:
    activities = SashaActivities(cast(HostPorts, SimpleNamespace(cluster_care=care)))
    return await activities.watch_cluster(Watch(ROW, timedelta(seconds=seconds)))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasha, "_PAUSE_SECONDS", 0.02)


async def test_what_is_hidden_longer_than_it_is_given_is_watched_until_it_can_be_seen() -> None:
    assert await watched(Answers(None, None, True), seconds=0.01)
    assert not await watched(Answers(None, None, False), seconds=0.01)


async def test_what_stays_hidden_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasha, "_HIDDEN_SECONDS", 0.05)

    assert not await watched(Answers(None), seconds=0.01)


@pytest.mark.parametrize("answer", [None, False])
async def test_a_look_without_patience_is_one_look(answer: bool | None) -> None:
    care = Answers(answer, True)

    assert not await watched(care, seconds=0)
    assert care.looks == 1


def test_what_is_slow_to_show_is_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasha, "_PAUSE_SECONDS", 2.0)

    # never below 2; 30 / 15; 360 / 15
    assert [sasha._pause(patience) for patience in (5, 30, 360)] == [2.0, 2.0, 24.0]


async def test_a_worker_calls_her_at_intervals_whatever_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[SashaCall] = []
    thrice = asyncio.Event()

    async def call(call: SashaCall) -> None:
        calls.append(call)
        if len(calls) == 3:
            thrice.set()
        raise DependencyUnavailable("Temporal", "nowhere", "It is down.")

    monkeypatch.setattr("hosting.sasha.CHECK_INTERVAL", timedelta(milliseconds=1))
    ports = cast(HostPorts, SimpleNamespace(sasha=SimpleNamespace(call=call), host="here"))
    checking = asyncio.create_task(check_regularly(ports))
    await asyncio.wait_for(thrice.wait(), PATIENCE_SECONDS)
    checking.cancel()

    assert calls[0] == SashaCall("here")


async def test_a_shortage_of_memory_calls_her_once_and_slots_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[SashaCall] = []
    slots = SlotLimit(tmp_path, 8)

    async def call(call: SashaCall) -> None:
        calls.append(call)

    stalled = [50.0] * 5
    memory = MemoryCare(
        "here", slots, lambda: Memory(1, 2, stalled=stalled.pop() if stalled else 0.0)
    )
    monkeypatch.setattr("hosting.sasha._MEMORY_SECONDS", 0.001)
    monkeypatch.setattr("adapters.care.memory.CALM_SECONDS", 0.0)
    slots.lower(2, "memory is short")
    ports = cast(HostPorts, SimpleNamespace(sasha=SimpleNamespace(call=call), host="here"))
    watching = asyncio.create_task(watch_memory(ports, memory))
    await eventually(lambda: not stalled and slots.lowered() is None, "the slots are back")
    watching.cancel()

    assert (calls, slots.current()) == ([SashaCall("here")], 8)
