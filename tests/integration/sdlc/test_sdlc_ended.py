"""Which requirements have ended: what may be tidied up on a host."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import Fix, FixOpening, Group, Pipeline, RequirementState
from tests.sdlc_factory import BACKEND, PLAN, Requirement, a_failure, an_order

FINAL = [state for state in RequirementState if state.is_final]


@pytest.mark.parametrize("state", FINAL)
async def test_a_requirement_has_ended_when_its_state_is_final(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, state: RequirementState
) -> None:
    over = await Requirement(sdlc_store, "REQ-1").begun()
    await Requirement(sdlc_store, "REQ-2").begun()
    await Requirement(sdlc_store, "REQ-3").accept()
    await over.close(state)

    ended = await sdlc_reader.ended(["REQ-1", "REQ-2", "REQ-3", "REQ-4"])

    assert list(ended) == ["REQ-1"]
    assert datetime.now(UTC) - ended["REQ-1"] < timedelta(minutes=1)


async def test_a_fix_has_not_ended_before_what_it_repairs(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """The fixes after it are told of its log."""
    requirement = await Requirement(sdlc_store).begun()
    failure = a_failure()
    await requirement.block(failure, asked=False)
    task = replace(PLAN.stage(BACKEND), needs=())
    fix = Fix("REQ-1-FIX-1", "REQ-1", 1, "roy", BACKEND, failure, task)
    plan = Pipeline("fix", (Group(task.group),), (task,))
    order = replace(an_order(fix.number), pipeline=plan)
    await sdlc_store.open_fixes(FixOpening(requirement.ref, 1, (fix,), (order,)))
    repair = Requirement(sdlc_store, fix.number)
    await repair.open()
    await repair.close()
    assert await sdlc_reader.ended([fix.number]) == {}

    await requirement.close(RequirementState.CANCELLED)

    ended = await sdlc_reader.ended(["REQ-1", fix.number])
    assert ended[fix.number] == ended["REQ-1"]


async def test_many_numbers_are_one_question(sdlc_reader: SdlcReader) -> None:
    # more than a query takes parameters
    assert await sdlc_reader.ended([f"REQ-{n}" for n in range(70_000)]) == {}
