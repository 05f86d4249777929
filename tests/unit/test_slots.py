"""The semaphore of a host: who is called from the queue, and no slot is lost or given twice."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.runs import slots as slots_module
from adapters.runs.slots import WAITING_ROOM, SlotLimit, Slots
from pipeline.model import SlotRequest, SlotUsage


def ask(run_id: str, priority: int = 2, minutes: float = 60) -> SlotRequest:
    return SlotRequest(run_id, priority, minutes)


def slots_of(home: Path, limit: int, *living: str) -> Slots:
    return Slots(SlotLimit(home, limit), living, lambda _: False)


async def queued(slots: Slots, *requests: SlotRequest) -> "list[asyncio.Task[None]]":
    tasks = [asyncio.create_task(slots.wait(request)) for request in requests]
    await asyncio.sleep(0)
    return tasks


@pytest.fixture
async def tasks() -> AsyncIterator["list[asyncio.Task[None]]"]:
    """Waiters that are given up in the end."""
    waiting: list[asyncio.Task[None]] = []
    yield waiting
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_waiters_are_called_by_priority_then_longest_path_then_arrival(
    tmp_path: Path,
) -> None:
    slots = slots_of(tmp_path, 1, "living")
    wishes = [("late", 2, 60), ("short", 2, 30), ("urgent", 0, 5), ("later", 2, 60), ("low", 4, 99)]
    tasks = await queued(slots, *(ask(*wish) for wish in wishes))
    assert [slots.place(name) for name, _, _ in wishes] == [2, 4, 1, 3, 5]
    served: list[str] = []

    slots.free("living")
    for _ in wishes:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        [done] = [
            name for task, (name, *_) in zip(tasks, wishes, strict=True)
            if task.done() and name not in served
        ]  # fmt: skip
        served.append(done)
        tasks_left = [task for task in tasks if not task.done()]
        assert slots.take(ask(done))
        slots.settle(done, is_living=False)
        await asyncio.sleep(0)
        assert len([task for task in tasks_left if task.done()]) <= 1

    assert served == ["urgent", "late", "later", "short", "low"]


async def test_slot_is_kept_for_who_was_called_and_given_on_if_they_do_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: "list[asyncio.Task[None]]"
) -> None:
    monkeypatch.setattr(slots_module, "RESERVED_SECONDS", 0.05)
    slots = slots_of(tmp_path, 1)
    tasks += await queued(slots, ask("first"), ask("second"))
    await tasks[0]
    assert not slots.take(ask("third"))

    await tasks[1]
    assert slots.take(ask("second"))
    assert not slots.take(ask("first"))


async def test_who_gives_up_leaves_no_slot_behind(tmp_path: Path) -> None:
    slots = slots_of(tmp_path, 1, "living")
    waiting = await queued(slots, ask("first"), ask("second"))
    waiting[0].cancel()
    slots.free("living")
    await waiting[1]
    assert slots.used == 1


async def test_living_run_takes_no_second_slot(tmp_path: Path) -> None:
    slots = slots_of(tmp_path, 1, "living")
    assert slots.take(ask("living"))
    slots.settle("living", is_living=True)
    assert slots.used == 1


async def test_more_urgent_is_let_into_a_full_waiting_room(
    tmp_path: Path, tasks: "list[asyncio.Task[None]]"
) -> None:
    """The least urgent, and of those the last, goes back to Temporal's queue."""
    slots = slots_of(tmp_path, 1, "living")
    tasks += await queued(slots, *(ask(f"run-{n}", 3) for n in range(WAITING_ROOM)))

    slots.expect(ask("as urgent", 3))
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    slots.expect(ask("urgent", 0))
    await tasks[-1]
    assert [task.done() for task in tasks].count(True) == 1
    assert not slots.take(ask(f"run-{WAITING_ROOM - 1}", 3))


async def test_slot_that_comes_free_is_kept_for_a_more_urgent_one_that_is_about_to_come(
    tmp_path: Path, tasks: "list[asyncio.Task[None]]"
) -> None:
    slots = slots_of(tmp_path, 1, "living")
    tasks += await queued(slots, ask("waits", 2))
    slots.expect(ask("as urgent", 2))
    slots.expect(ask("urgent", 1))

    slots.free("living")
    await slots.wait(ask("urgent", 1))
    assert slots.take(ask("urgent", 1))
    slots.settle("urgent", is_living=False)
    await tasks[0]


async def test_place_that_temporal_gives_to_a_less_urgent_one_is_freed_again(
    tmp_path: Path, tasks: "list[asyncio.Task[None]]"
) -> None:
    """The more urgent was not in Temporal's queue yet; a slot that is his waits for him."""
    slots = slots_of(tmp_path, 1, "living")
    tasks += await queued(slots, *(ask(f"run-{n}", 3) for n in range(WAITING_ROOM)))
    slots.expect(ask("urgent", 1))
    await tasks[-1]
    slots.free("living")

    tasks += await queued(slots, ask("came first", 3))
    await tasks[-1]
    assert not slots.take(ask("came first", 3))
    await slots.wait(ask("urgent", 1))
    assert slots.take(ask("urgent", 1))


async def test_slot_of_an_execution_that_is_withdrawn_goes_to_the_next(
    tmp_path: Path, tasks: "list[asyncio.Task[None]]"
) -> None:
    slots = slots_of(tmp_path, 1, "living")
    tasks += await queued(slots, ask("REQ-1/wf/a/1", 2), ask("REQ-10/wf/a/1", 2))
    slots.expect(ask("REQ-1/wf/b/1", 0))
    slots.free("living")
    assert not any(task.done() for task in tasks)

    slots.withdraw("REQ-1/wf")
    await asyncio.gather(*tasks)
    assert slots.take(ask("REQ-10/wf/a/1", 2))
    assert not slots.take(ask("REQ-1/wf/a/1", 2))


async def test_one_sweep_looks_after_the_host_for_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: "list[asyncio.Task[None]]"
) -> None:
    """It sees what nobody is attached to, and nothing else; nobody who waits looks himself."""
    monkeypatch.setattr(slots_module, "TICK_SECONDS", 0.2)  # we look before the next one
    looked: list[str] = []

    def has_ended(run_id: str) -> bool:
        looked.append(run_id)
        return True

    slots = Slots(SlotLimit(tmp_path, 2), ("left", "followed"), has_ended)
    slots.attach("followed")
    tasks += await queued(slots, *(ask(f"run-{n}") for n in range(WAITING_ROOM)))

    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    before = slots.sweeps
    assert (looked, before) == (["left"], 1)


async def test_usage_says_why_there_are_fewer_slots_than_configured(
    tmp_path: Path, tasks: "list[asyncio.Task[None]]"
) -> None:
    limit = SlotLimit(tmp_path, 4)
    limit.lower(2, "memory is short")
    slots = Slots(limit, ("living", "other"), lambda _: False)
    usages = slots.usages()
    tasks += await queued(slots, ask("first"))
    assert await anext(usages) == SlotUsage(2, 2, 4, "lowered: memory is short")

    limit.restore()
    await tasks[0]
    assert await anext(usages) == SlotUsage(3, 4, 4)


@settings(max_examples=60)
@given(limit=st.integers(1, 4), seed=st.integers(0, 10_000), steps=st.integers(1, 60))
def test_never_more_slots_than_the_limit_and_none_lies_idle(
    tmp_path_factory: pytest.TempPathFactory, limit: int, seed: int, steps: int
) -> None:
    home = tmp_path_factory.mktemp("slots")

    async def crowd() -> None:
        slots, choice = slots_of(home, limit), random.Random(seed)
        living: set[str] = set()
        waiting: dict[str, asyncio.Task[None]] = {}
        for step in range(steps):
            action = choice.choice(("come", "end", "give up", "come"))
            if action == "come":
                request = ask(f"run-{step}", choice.randint(0, 4), choice.random())
                [waiting[request.run_id]] = await queued(slots, request)
            elif action == "end" and living:
                slots.free(living.pop())
            elif action == "give up" and waiting:
                waiting.pop(choice.choice(sorted(waiting))).cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for run_id in [run_id for run_id, task in waiting.items() if task.done()]:
                del waiting[run_id]
                assert slots.take(ask(run_id))
                slots.settle(run_id, is_living=True)
                living.add(run_id)
            assert slots.used == len(living) <= limit
            assert len(living) == limit or not waiting
        for task in waiting.values():
            task.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)

    asyncio.run(crowd())
