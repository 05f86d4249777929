"""Following requirements: every change is shown, and nothing is read that has not changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import RequirementView
from cli import following
from cli.following import follow
from pipeline.errors import DependencyUnavailable
from pipeline.model import RequirementState
from tests.unit.test_cli_board import ASKED, RUNNING

DOWN = DependencyUnavailable("The database", "somewhere", "It is down.")
Step = Callable[["Records"], None]


class Records:
    """A reader of requirements that change by the script, one step a look."""

    def __init__(self, *steps: Step, views: Sequence[RequirementView] = (RUNNING,)) -> None:
        self.views = {view.number: view for view in views}
        self.version = dict.fromkeys(self.views, 0)
        self.reads: list[str] = []
        self.is_down = False
        self._steps = list(steps)

    def put(self, view: RequirementView) -> None:
        self.views[view.number] = view
        self.version[view.number] = self.version.get(view.number, 0) + 1

    async def under_way(self) -> tuple[str, ...]:
        return tuple(self.views)

    async def versions(self, numbers: Sequence[str]) -> Mapping[str, object]:
        if self._steps:
            self._steps.pop(0)(self)
        if self.is_down:
            raise DOWN
        return {number: self.version[number] for number in numbers}

    async def requirement(self, number: str) -> RequirementView:
        self.reads.append(number)
        return self.views[number]


def nothing(records: Records) -> None:
    pass


def deliver(number: str = "REQ-1") -> Step:
    delivered = replace(RUNNING, number=number, state=RequirementState.DELIVERED)
    return lambda records: records.put(delivered)


def power(*, is_down: bool) -> Step:
    return lambda records: setattr(records, "is_down", is_down)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(following, "_NEW_SECONDS", -1.0)


async def followed(records: Records, *numbers: str, with_new: bool = False) -> list[str]:
    """The states that were shown, in their order."""
    shown: list[str] = []
    views = await follow(
        cast(SdlcReader, records),
        numbers or ("REQ-1",),
        lambda view: shown.append(f"{view.number} {view.state}"),
        shown.append,
        with_new=with_new,
    )
    assert {number: views[number].state for number in views} == {
        number: records.views[number].state for number in views
    }
    return shown


async def test_only_what_has_changed_is_read() -> None:
    records = Records(*[nothing] * 50, deliver())

    assert await followed(records) == ["REQ-1 RUNNING", "REQ-1 DELIVERED"]
    assert records.reads == ["REQ-1", "REQ-1"]


async def test_what_changes_elsewhere_is_read_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "_WHOLE_SECONDS", 0.0)
    records = Records(nothing, nothing, deliver())

    assert len(await followed(records)) == 3


async def test_an_outage_is_waited_for_but_not_at_the_first_look() -> None:
    outage = (nothing, power(is_down=True), nothing, power(is_down=False), deliver())
    assert await followed(Records(*outage)) == ["REQ-1 RUNNING", "REQ-1 DELIVERED"]

    with pytest.raises(DependencyUnavailable):
        await followed(Records(power(is_down=True)))


async def test_it_ends_once_each_has_ended_or_asks_a_human() -> None:
    asked = replace(ASKED, number="REQ-2")
    records = Records(nothing, nothing, deliver(), views=(RUNNING, asked))

    assert await followed(records, "REQ-1", "REQ-2") == [
        "REQ-1 RUNNING",
        "REQ-2 BLOCKED",
        "REQ-1 DELIVERED",
    ]


async def test_what_is_started_meanwhile_is_followed_as_well() -> None:
    new = replace(RUNNING, number="REQ-2")
    steps = (nothing, lambda records: records.put(new), nothing, deliver(), deliver("REQ-2"))

    assert await followed(Records(*steps), with_new=True) == [
        "REQ-1 RUNNING",
        "REQ-2 RUNNING",
        "REQ-1 DELIVERED",
        "REQ-2 DELIVERED",
    ]


async def test_one_that_no_host_takes_is_told_of_once() -> None:
    waiting = replace(RUNNING, state=RequirementState.ACCEPTED, stages=())
    again = replace(waiting, updated_at=datetime(2026, 1, 1, tzinfo=UTC))

    shown = await followed(Records(nothing, lambda r: r.put(again), deliver(), views=(waiting,)))

    assert len([line for line in shown if "no host has taken it" in line]) == 1
