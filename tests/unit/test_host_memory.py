"""Memory of a host: when its slots are lowered, and when they are given back."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.care.memory import CALM_SECONDS, STEP_SECONDS, Memory, MemoryCare, measure
from adapters.readiness import MIB
from adapters.runs.slots import SlotLimit
from pipeline.model import AlertKind

GIB = 1024 * MIB
CALM = Memory(8 * GIB, 16 * GIB, stalled=0.0)
BUSY = Memory(8 * GIB, 16 * GIB, stalled=8.0)
SHORT = Memory(8 * GIB, 16 * GIB, stalled=25.5)


@dataclass
class Host:
    """A host whose memory is whatever the test says."""

    slots: SlotLimit
    memory: Memory = CALM
    seconds: float = 0.0

    @property
    def care(self) -> MemoryCare:
        return MemoryCare("host-1", self.slots, lambda: self.memory, lambda: self.seconds)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(SlotLimit(tmp_path, 8))


async def lower(care: MemoryCare) -> str:
    (alert,) = await care.look()
    return await care.act(alert)


@pytest.mark.parametrize(
    ("memory", "is_short", "is_calm"),
    [
        (CALM, False, True),
        (BUSY, False, False),
        (SHORT, True, False),
        (Memory(GIB // 4, 16 * GIB, stalled=0.0), False, True),  # caches that nobody waits for
        (Memory(500 * MIB, 4 * GIB), True, False),  # below 512 MiB
        (Memory(600 * MIB, 4 * GIB), False, False),
        (Memory(3 * GIB, 64 * GIB), True, False),  # 5 % are 3.2 GiB
        (Memory(4 * GIB, 64 * GIB), False, False),
        (Memory(7 * GIB, 64 * GIB), False, True),
        (Memory(800 * MIB, GIB), False, True),  # twice the bound would be all there is
    ],
)
def test_bounds_of_memory(memory: Memory, is_short: bool, is_calm: bool) -> None:
    assert (memory.is_short, memory.is_calm) == (is_short, is_calm)


def test_this_host_can_be_measured() -> None:
    memory = measure()

    assert 0 < memory.available_bytes <= memory.total_bytes


@pytest.mark.parametrize(
    ("text", "stalled"),
    [
        ("some avg10=12.50 avg60=3.00 avg300=0.10 total=99\nfull avg10=0.00 total=7\n", 12.5),
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", None),
        ("", None),
        (None, None),
    ],
)
def test_pressure_is_read_where_the_system_counts_it(
    tmp_path: Path, text: str | None, stalled: float | None
) -> None:
    file = tmp_path / "memory"
    if text is not None:
        file.write_text(text)

    assert measure(file).stalled == stalled


async def test_short_memory_halves_the_slots_and_leaves_two(host: Host) -> None:
    host.memory, care = SHORT, host.care
    steps = []
    for _ in range(4):
        await lower(care)
        steps.append(host.slots.current())
        host.seconds += STEP_SECONDS

    assert steps == [4, 2, 2, 2]
    assert host.slots.why().startswith("lowered: memory is short: ")
    assert "waited for memory 25.5 %" in host.slots.why()
    (alert,) = await care.look()
    assert (alert.kind, alert.component) == (AlertKind.HOST_OVERLOADED, "host")
    assert "only 2 slots" in await care.act(alert)


async def test_one_configured_slot_stays_one(tmp_path: Path) -> None:
    host = Host(SlotLimit(tmp_path, 1), SHORT)

    assert "only 1 slots" in await lower(host.care)

    assert (host.slots.current(), host.slots.why()) == (1, "")


async def test_a_repeat_lowers_nothing_before_the_first_step_could_show(host: Host) -> None:
    host.memory, care = SHORT, host.care
    await lower(care)
    host.seconds += STEP_SECONDS - 1

    assert "not lowered again yet" in await lower(care)

    assert host.slots.current() == 4


async def test_a_shortage_that_is_over_when_it_is_treated_lowers_nothing(host: Host) -> None:
    host.memory, care = SHORT, host.care
    (alert,) = await care.look()
    host.memory = BUSY

    assert (await care.act(alert)).startswith("It is over:")

    assert host.slots.current() == 8


async def test_slots_are_back_half_a_minute_after_a_shortage(host: Host) -> None:
    host.memory, care = SHORT, host.care
    await lower(care)
    host.memory = BUSY
    host.seconds += 3600
    assert await care.relax() == ""  # within the bounds, but not far within

    host.memory = CALM
    assert await care.relax() == ""
    host.seconds += CALM_SECONDS
    assert await care.relax() == "The host's slots were raised from 4 to 8."

    assert host.slots.lowered() is None
    assert await care.relax() == ""


async def test_a_new_shortage_starts_the_wait_again(host: Host) -> None:
    host.memory, care = SHORT, host.care
    await lower(care)
    for memory in (CALM, SHORT, CALM):
        host.memory = memory
        host.seconds += CALM_SECONDS - 1
        assert await care.relax() == ""

    assert host.slots.current() == 4


async def test_a_new_worker_gives_back_what_an_earlier_one_has_lowered(host: Host) -> None:
    host.slots.lower(2, "memory is short")
    care = host.care
    await care.relax()
    host.seconds += CALM_SECONDS

    assert await care.relax() == "The host's slots were raised from 2 to 8."
