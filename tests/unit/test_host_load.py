"""Load of a host: when slots are lowered, and when they are raised again."""

from dataclasses import dataclass, field

import pytest

from adapters.host_care.load import MIB, STEP_SECONDS, HostLoad, LoadCare, measure
from pipeline.model import SymptomKind

GIB = 1024 * MIB


@dataclass
class Host:
    """A host whose load is whatever the test says."""

    load: HostLoad
    slots: int = 8
    configured: int = 8
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def current(self) -> int:
        return self.slots

    def lower(self, to: int, why: str) -> None:
        self.slots = to
        self.reasons.append(why)

    def raise_again(self) -> None:
        self.slots = min(self.configured, 2 * self.slots)


CALM = HostLoad(8 * GIB, 16 * GIB, load=1.0, processors=2)
BUSY = HostLoad(8 * GIB, 16 * GIB, load=6.0, processors=2)
OVERLOADED = HostLoad(8 * GIB, 16 * GIB, load=8.1, processors=2)


def care_of(host: Host) -> LoadCare:
    return LoadCare("host-1", host, lambda: host.load, lambda: host.seconds)


async def lower(care: LoadCare) -> str:
    (symptom,) = await care.look()
    return await care.act(symptom)


@pytest.mark.parametrize(
    ("load", "is_too_high", "is_calm"),
    [
        (CALM, False, True),
        (BUSY, False, False),  # 3 per processor: below 4, not below 2
        (OVERLOADED, True, False),
        (HostLoad(500 * MIB, 4 * GIB, 0.0, 2), True, False),  # below 512 MiB
        (HostLoad(600 * MIB, 4 * GIB, 0.0, 2), False, False),
        (HostLoad(3 * GIB, 64 * GIB, 0.0, 2), True, False),  # 5 % are 3.2 GiB
        (HostLoad(4 * GIB, 64 * GIB, 0.0, 2), False, False),
        (HostLoad(7 * GIB, 64 * GIB, 0.0, 2), False, True),
        (HostLoad(800 * MIB, GIB, 0.0, 1), False, True),  # twice the bound would be all there is
    ],
)
def test_bounds_of_a_load(load: HostLoad, is_too_high: bool, is_calm: bool) -> None:
    assert (load.is_too_high, load.is_calm) == (is_too_high, is_calm)


def test_this_host_can_be_measured() -> None:
    load = measure()

    assert 0 < load.available_bytes <= load.total_bytes
    assert load.processors >= 1


async def test_an_overloaded_host_has_its_slots_halved_and_never_below_one() -> None:
    host = Host(OVERLOADED)
    care = care_of(host)
    steps = []
    for _ in range(5):
        await lower(care)
        steps.append(host.slots)
        host.seconds += STEP_SECONDS

    assert steps == [4, 2, 1, 1, 1]
    assert "load of 5 minutes is 8.1 on 2 processors" in host.reasons[0]
    (symptom,) = await care.look()
    assert (symptom.kind, symptom.component) == (SymptomKind.HOST_OVERLOADED, "host")
    assert "one agent at a time" in await care.act(symptom)


async def test_a_repeat_lowers_nothing_before_the_first_step_could_show() -> None:
    host = Host(OVERLOADED)
    care = care_of(host)
    await lower(care)
    host.seconds += STEP_SECONDS - 1

    assert "not lowered again yet" in await lower(care)

    assert host.slots == 4


async def test_what_is_over_when_it_is_treated_lowers_nothing() -> None:
    host = Host(OVERLOADED)
    care = care_of(host)
    (symptom,) = await care.look()
    host.load = BUSY

    assert (await care.act(symptom)).startswith("It is over.")

    assert host.slots == 8


async def test_slots_are_doubled_step_by_step_while_the_host_is_calm() -> None:
    host = Host(BUSY, slots=1, configured=6)
    care = care_of(host)
    assert await care.relax() == ""  # within the bounds, but not far within

    host.load = CALM
    steps = []
    for _ in range(5):
        host.seconds += STEP_SECONDS / 2
        await care.relax()
        steps.append(host.slots)

    assert steps == [2, 2, 4, 4, 6]
    host.seconds += STEP_SECONDS
    assert await care.relax() == ""


async def test_looks_of_a_calm_host_do_not_hold_up_a_lowering() -> None:
    host = Host(CALM)
    care = care_of(host)
    await care.relax()
    host.load = OVERLOADED

    await lower(care)

    assert host.slots == 4
