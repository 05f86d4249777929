from dataclasses import replace
from datetime import UTC, datetime

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import (
    Ask,
    Fix,
    FixBase,
    FixOpening,
    Group,
    Head,
    Pipeline,
    Reminder,
    RequirementState,
)
from tests.sdlc_factory import BACKEND, FRONTEND, PLAN, RESEARCH, Requirement, a_failure, an_order

GATE = "build backend"


def a_fix(number: str, *, parent: str = "REQ-1", depth: int = 1) -> Fix:
    task = replace(PLAN.stage(BACKEND), name=f"Fix {GATE}", group="Fix", needs=())
    return Fix(number, parent, depth, "roy", BACKEND, a_failure(BACKEND, GATE), task)


async def open_fixes(requirement: Requirement, *fixes: Fix) -> None:
    orders = tuple(
        replace(
            an_order(fix.number),
            pipeline=Pipeline("fix", (Group("Fix"),), (fix.task,)),
            fix=FixBase("host-1", Head("base", 0)),
        )
        for fix in fixes
    )
    await requirement.store.open_fixes(FixOpening(requirement.ref, 1, fixes, orders))


async def test_status_names_every_fix_in_the_order_of_creation(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.block(await requirement.fail(RESEARCH))
    many = [a_fix(f"REQ-1-FIX-{n}") for n in range(1, 11)]
    await open_fixes(requirement, *many)
    await open_fixes(requirement, a_fix("REQ-1-FIX-2-FIX-1", parent="REQ-1-FIX-2", depth=2))

    fixes = (await sdlc_reader.requirement("REQ-1")).fixes

    assert [fix.number for fix in fixes] == [
        *(f"REQ-1-FIX-{n}" for n in range(1, 11)),
        "REQ-1-FIX-2-FIX-1",
    ]
    nested = fixes[-1]
    assert (nested.parent, nested.depth, nested.assignee) == ("REQ-1-FIX-2", 2, "roy")
    assert (nested.gate, nested.state, nested.ended_at) == (GATE, "ACCEPTED", None)


async def test_a_fix_names_what_it_repairs_and_its_own_fixes(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.block(await requirement.fail(RESEARCH))
    await open_fixes(requirement, a_fix("REQ-1-FIX-1"), a_fix("REQ-1-FIX-2"))
    await open_fixes(requirement, a_fix("REQ-1-FIX-1-FIX-1", parent="REQ-1-FIX-1", depth=2))
    await Requirement(sdlc_store, "REQ-1-FIX-1").close(RequirementState.FAILED)

    fix = await sdlc_reader.requirement("REQ-1-FIX-1")
    ended = (await sdlc_reader.requirement("REQ-1")).fixes[0]
    listed = {each.number: each for each in await sdlc_reader.requirements()}

    assert (fix.parent, fix.assignee) == ("REQ-1", "roy")
    assert [each.number for each in fix.fixes] == ["REQ-1-FIX-1-FIX-1"]
    assert (ended.state, ended.reason) == (RequirementState.FAILED, "Because.")
    assert ended.ended_at
    assert (listed["REQ-1-FIX-2"].parent, listed["REQ-1-FIX-2"].assignee) == ("REQ-1", "roy")
    assert (listed["REQ-1"].parent, listed["REQ-1"].assignee) == (None, None)


async def test_status_and_list_show_the_open_question(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    before = datetime.now(UTC)
    await requirement.block(await requirement.fail(RESEARCH))
    await sdlc_store.remind(Reminder(requirement.ref, 1, 1))

    asked = (await sdlc_reader.requirement("REQ-1")).escalation
    [listed] = await sdlc_reader.requirements(waiting=True)

    assert asked
    assert (asked.escalation, asked.round, asked.reminders) == (1, 1, 1)
    assert asked.asks == (Ask(RESEARCH, f"run {RESEARCH}", "it has no owner"),)
    assert (asked.answers, asked.answered_at) == (("decide abort",), None)
    assert listed.asks == asked.asks
    assert listed.waiting_since == asked.created_at
    assert before <= asked.created_at <= datetime.now(UTC)


async def test_an_answer_stands_beside_its_question(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.block(await requirement.fail(RESEARCH))
    await requirement.reopen(RESEARCH, why="It is there now.")
    await requirement.block(await requirement.fail(RESEARCH, 2), round_=2)

    first, second = await sdlc_reader.escalations("REQ-1")

    assert (first.answer, first.who, first.note) == ("reopen", "ann", "It is there now.")
    assert first.answered_at
    assert (second.escalation, second.round, second.answered_at) == (2, 2, None)
    assert (await sdlc_reader.requirement("REQ-1")).escalation == second


async def test_what_is_over_asks_and_waits_for_nothing(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.block(await requirement.fail(FRONTEND))
    await requirement.close(RequirementState.FAILED)

    [listed] = await sdlc_reader.requirements()

    assert (await sdlc_reader.requirement("REQ-1")).escalation is None
    assert (listed.asks, listed.waiting_since) == ((), None)


async def test_where_nobody_is_asked_the_waiting_began_with_the_state(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(sdlc_store).accept()

    [listed] = await sdlc_reader.requirements(waiting=True)

    assert (listed.waiting_for, listed.asks) == ("host", ())
    assert listed.waiting_since == listed.created_at
