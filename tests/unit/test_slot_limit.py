"""How many agents may live at once, as the state directory says it."""

from pathlib import Path

import pytest

from adapters.runs.slots import LOWERED, SLOTS, Lowered, SlotLimit
from pipeline.errors import RefusedInput


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def slots(home: Path) -> SlotLimit:
    return SlotLimit(home, 4)


def test_what_is_configured_holds_until_something_else_is_said(slots: SlotLimit) -> None:
    assert (slots.current(), slots.chosen(), slots.lowered()) == (4, None, None)


def test_what_was_set_holds_for_everybody_and_over_restarts(slots: SlotLimit, home: Path) -> None:
    slots.set(7)
    assert SlotLimit(home, 4).current() == 7

    SlotLimit(home, 4).reset()
    assert (slots.current(), slots.chosen()) == (4, None)


def test_the_lower_of_both_limits_holds(slots: SlotLimit) -> None:
    slots.lower(2, "memory is short")
    assert (slots.current(), slots.lowered()) == (2, Lowered(2, "memory is short"))

    slots.set(1)
    assert slots.current() == 1
    slots.set(9)
    assert slots.current() == 2

    slots.restore()
    assert (slots.current(), slots.lowered()) == (9, None)


@pytest.mark.parametrize("to", [1, 0, -3])
def test_two_agents_may_live_unless_one_is_configured(
    slots: SlotLimit, home: Path, to: int
) -> None:
    slots.lower(to, "memory is short")

    assert (slots.current(), slots.why()) == (2, "lowered: memory is short")
    only_one = SlotLimit(home, 1)
    assert (only_one.current(), only_one.why()) == (1, "")


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_no_number_of_slots_is_refused_and_changes_nothing(slots: SlotLimit, number: int) -> None:
    slots.set(3)

    with pytest.raises(RefusedInput, match="1 to 1000"):
        slots.set(number)
    assert slots.current() == 3


@pytest.mark.parametrize("text", ["", "3 agents", "3", "[]", '{"to": true}', '{"to": 0}', "{}"])
@pytest.mark.parametrize("name", [SLOTS, LOWERED])
def test_a_file_that_says_no_number_is_named(home: Path, name: str, text: str) -> None:
    home.mkdir()
    (home / name).write_text(text)

    with pytest.raises(RefusedInput, match=f"{name}.* Remove it"):
        SlotLimit(home, 4).current()


def test_giving_back_what_was_never_set_changes_nothing(slots: SlotLimit) -> None:
    slots.reset()
    slots.restore()

    assert slots.current() == 4
