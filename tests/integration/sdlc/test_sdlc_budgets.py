"""Budgets on a real database: who is held, what is asked once, and races for the last dollar."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore, create_store
from pipeline.budgets import NO_BUDGET, RunBudget, scope_of_day
from pipeline.errors import RefusedInput
from pipeline.model import (
    Bounds,
    Ending,
    FailureKind,
    Hold,
    Priority,
    ProgramReport,
    RequirementState,
    RunEnd,
    RunResult,
    StageContext,
    StageOutcome,
    StageState,
)
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    PLAN,
    RESEARCH,
    Requirement,
    a_failure,
    an_order,
    begin_fix,
)


async def bounded(
    store: PostgresSdlcStore, number: str = "REQ-1", usd: float | None = 10.0, **bounds: float
) -> Requirement:
    """A running requirement with a budget of its own."""
    plan = replace(PLAN, bounds=Bounds(usd=usd, warn_usd=bounds.get("warn_usd")))
    order = replace(an_order(number), pipeline=plan)
    await store.accept_all([Acceptance(order, "A description")])
    requirement = Requirement(store, number)
    await requirement.open()
    return requirement


async def opened(
    each: Requirement, name: str = RESEARCH, attempt: int = 1, run: RunBudget = NO_BUDGET
) -> StageContext | Hold:
    return await each.store.open_stage(each.request(name, attempt), each.number, "", run=run)


async def held(each: Requirement, name: str = RESEARCH, attempt: int = 1) -> Hold:
    hold = await opened(each, name, attempt)
    assert isinstance(hold, Hold), hold
    return hold


async def most(
    each: Requirement, name: str = RESEARCH, attempt: int = 1, run: RunBudget = NO_BUDGET
) -> float | None:
    context = await opened(each, name, attempt, run)
    assert isinstance(context, StageContext), context
    return context.most_usd


async def spent(each: Requirement, usd: float, name: str = RESEARCH, attempt: int = 1) -> bool:
    """An open run fails, having cost so much; whether others may have to be notified."""
    failure = a_failure(name, f"run {name}", kind=FailureKind.INFRASTRUCTURE, owners=())
    outcome = StageOutcome(name, attempt, StageState.FAILED, None, True, failure=failure)
    now = datetime.now(UTC)
    report = ProgramReport("claude-code", "work", Ending.SUCCESS, cost_usd=usd)
    result = RunResult(RunEnd.EXITED, 1, "", "", now, now, 1, "log", report=report)
    request = each.request(name, attempt)
    return (await each.store.close_stage(request, outcome, result, None, None)).may_notify


async def costs(each: Requirement, usd: float, name: str = RESEARCH, attempt: int = 1) -> None:
    assert isinstance(await opened(each, name, attempt), StageContext)
    await spent(each, usd, name, attempt)


async def told(reader: SdlcReader, prefix: str, *numbers: str) -> Sequence[str]:
    events = [event for number in numbers for event in await reader.events(number)]
    return [event.type for event in events if event.type.startswith(prefix)]


async def test_a_human_is_reminded_of_a_budget_ever_more_seldom_until_it_is_raised(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await bounded(sdlc_store)
    await costs(ours, 10.25)
    await held(ours, RESEARCH, 2)
    asked_at = datetime.now(UTC)

    async def reminded(hours: float) -> int:
        at = asked_at + timedelta(hours=hours)
        for _ in range(2):  # a second worker
            await sdlc_store.remind_of_holds(at)
        return (await told(sdlc_reader, "escalation.reminder", "REQ-1")).count(
            "escalation.reminder"
        )

    assert [await reminded(hours) for hours in (23, 25, 71, 73, 167, 169)] == [0, 1, 1, 2, 2, 3]
    events = await sdlc_reader.events("REQ-1")
    (first, *_) = [each for each in events if each.type == "escalation.reminder"]
    assert first.subject == "agog.escalations.REQ-1"
    assert (first.payload["budget"], first.payload["reminder"]) == ("REQ-1", 1)
    assert "$10.25 of $10.00" in str(first.payload["reason"])
    await sdlc_store.raise_budget("REQ-1", 20.0, "ada", of_day=False)
    assert await reminded(1_000) == 3


async def test_spent_budget_holds_asks_once_and_continues_when_it_is_raised(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await bounded(sdlc_store)
    other = await bounded(sdlc_store, "REQ-2", None)
    await costs(ours, 10.25)
    for name, attempt in ((RESEARCH, 2), (CRITIQUE, 1), (RESEARCH, 2)):
        hold = await held(ours, name, attempt)
        assert (hold.by, hold.budget, hold.until) == (("budget of REQ-1",), "REQ-1", None)
    assert "$10.25 of $10.00" in hold.reason
    assert await most(other) is None
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, "budget of REQ-1")
    assert all(each.needs_human for each in view.holds)
    assert (await sdlc_store.to_notify()).workflow_ids == ()
    assert await told(sdlc_reader, "budget", "REQ-1") == [
        "budget.warning",
        "budget.reached",
        "budget.escalation",
    ]

    raised = await sdlc_store.raise_budget("REQ-1", 20.0, "ada", of_day=False)

    assert (raised.limit, raised.spent) == (20.0, 10.25)
    notification = await sdlc_store.to_notify()
    assert notification.workflow_ids == ("REQ-1",)
    assert notification.gate_version > hold.gate_version
    await costs(ours, 9.75, RESEARCH, 2)
    assert "$20.00 of $20.00" in (await held(ours, CRITIQUE)).reason
    assert (await told(sdlc_reader, "budget", "REQ-1")).count("budget.escalation") == 2


@pytest.mark.parametrize(
    ("usd", "of_day", "why"),
    [
        (10.0, False, "does not raise"),
        (12.0, False, "$12.50 of $10.00 are spent"),
        (100.0, True, "no budget that could be raised"),
    ],
)
async def test_budget_is_raised_beyond_what_is_spent(
    sdlc_store: PostgresSdlcStore, usd: float, of_day: bool, why: str
) -> None:
    ours = await bounded(sdlc_store)
    await costs(ours, 12.5)

    with pytest.raises(RefusedInput) as refusal:
        await sdlc_store.raise_budget("REQ-1", usd, "ada", of_day=of_day)
    assert why in str(refusal.value)


async def test_requirement_without_a_budget_has_none_to_raise(
    sdlc_store: PostgresSdlcStore,
) -> None:
    await bounded(sdlc_store, usd=None)

    with pytest.raises(RefusedInput, match="REQ-1 has no budget"):
        await sdlc_store.raise_budget("REQ-1", 10.0, "ada", of_day=False)


@pytest.mark.parametrize(("usd", "warn_usd"), [(10.0, 4.0), (None, 4.0), (5.0, None)])
async def test_soft_limit_warns_once_and_holds_nobody(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, usd: float | None, warn_usd: float
) -> None:
    ours = await bounded(sdlc_store, usd=usd, warn_usd=warn_usd)
    await costs(ours, 3.9)
    assert await told(sdlc_reader, "budget", "REQ-1") == []
    await costs(ours, 0.1, RESEARCH, 2)
    await costs(ours, 0.1, RESEARCH, 3)

    assert await told(sdlc_reader, "budget", "REQ-1") == ["budget.warning"]
    (budget,) = (await sdlc_reader.requirement("REQ-1")).budgets
    assert budget.is_warned
    assert budget.spent == pytest.approx(4.1)


async def test_fix_spends_the_budget_of_what_it_repairs(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await bounded(sdlc_store)
    await costs(ours, 6.0)
    fix = await begin_fix(ours)
    await costs(fix, 4.0, BACKEND)

    hold = await held(fix, BACKEND, 2)
    assert (hold.by, hold.budget) == (("budget of REQ-1",), "REQ-1")
    assert "decide REQ-1 raise-budget" in hold.reason
    assert "$10.00 of $10.00" in (await held(ours, CRITIQUE)).reason
    assert (await sdlc_reader.requirement("REQ-1")).is_out_of_budget
    await sdlc_store.raise_budget(fix.number, 15.0, "ada", of_day=False)
    assert set((await sdlc_store.to_notify()).workflow_ids) == {"REQ-1", fix.number}


async def test_day_holds_everybody_until_it_is_over_or_raised(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await sdlc_store.set_day_budget(5.0, None)
    ours, other = await bounded(sdlc_store), await bounded(sdlc_store, "REQ-2", None)
    await costs(ours, 2.0)
    await costs(other, 3.0)
    holds = [await held(ours, CRITIQUE), await held(other, CRITIQUE)]

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert {hold.until for hold in holds} == {midnight + timedelta(days=1)}
    assert {hold.budget for hold in holds} == {scope_of_day(midnight)}
    asked = await told(sdlc_reader, "budget", "REQ-1", "REQ-2")
    assert sorted(asked) == ["budget.escalation", "budget.reached", "budget.warning"]
    assert (await sdlc_store.to_notify()).workflow_ids == ()
    await sdlc_store.raise_budget("REQ-2", 8.0, "ada", of_day=True)
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1", "REQ-2")
    await costs(other, 3.0, CRITIQUE)
    assert isinstance(await opened(ours, CRITIQUE), Hold)
    assert await sdlc_store.set_day_budget(None, None)  # as a worker with other settings does
    assert await most(ours, CRITIQUE) is None


async def test_what_a_day_has_cost_before_today_does_not_count(
    sdlc_store: PostgresSdlcStore,
) -> None:
    """The factory's runs ended long ago."""
    ours = await bounded(sdlc_store, usd=None)
    await ours.run(RESEARCH)
    await sdlc_store.set_day_budget(0.01, None)

    assert await most(ours, CRITIQUE) is None


async def test_run_may_cost_what_others_leave_and_its_end_notifies_who_waits(
    sdlc_store: PostgresSdlcStore,
) -> None:
    """The program is held to what is left: running together they never exceed the budget."""
    ours, run = await bounded(sdlc_store), RunBudget(most=6.0)
    assert await most(ours, RESEARCH, 1, run) == 6.0
    assert await most(ours, RESEARCH, 1, run) == 6.0  # a repeat reserves nothing twice
    assert await most(ours, CRITIQUE, 1, run) == 4.0
    hold = await held(ours, BACKEND)
    assert hold.until
    assert "running agents may cost another $10.00" in hold.reason
    assert await sdlc_store.queue_stage(ours.request(BACKEND), "REQ-1", "", run=run) is None
    await held(ours, BACKEND)

    assert await spent(ours, 1.0)

    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert await most(ours, BACKEND, 1, run) == 5.0


async def test_p0_is_named_first_and_asks_nobody_for_money(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await bounded(sdlc_store)
    await costs(ours, 10.0)
    urgent = replace(an_order("REQ-2"), priority=Priority.P0)
    await sdlc_store.accept_all([Acceptance(urgent, "A description")])

    assert (await held(ours, CRITIQUE)).by == ("REQ-2",)
    assert "budget.escalation" not in await told(sdlc_reader, "budget", "REQ-1")


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Sequence[PostgresSdlcStore]]:
    """As two workers."""
    both = [create_store(database_url) for _ in range(2)]
    yield both
    for store in both:
        await store.close()


@pytest.mark.parametrize(
    ("left", "starting"), [(0.0, 0), (4.0, 1), (11.0, 3), (100.0, 8)], ids=lambda each: f"{each:g}"
)
async def test_of_runs_that_start_at_once_no_more_pass_than_there_is_room_for(
    stores: Sequence[PostgresSdlcStore], sdlc_reader: SdlcReader, left: float, starting: int
) -> None:
    """Requirements and fixes of one, on two workers; each run may cost $5, the last one less."""
    await stores[0].set_day_budget(100.0, None)
    numbers = [f"REQ-{nth}" for nth in range(4)]
    first = [await bounded(stores[0], number, None) for number in numbers]
    crowd = [*first, *[await begin_fix(first[0], nth) for nth in range(1, 5)]]
    payer = await bounded(stores[0], "REQ-PAYS", None)
    await costs(payer, 100.0 - left)
    random.shuffle(crowd)
    for nth, each in enumerate(crowd):
        each.store = stores[nth % 2]
    answers = await asyncio.gather(*(opened(each, BACKEND, 1, RunBudget(5.0)) for each in crowd))

    started = [each.most_usd for each in answers if isinstance(each, StageContext)]
    assert len(started) == starting
    assert sum(each or 0.0 for each in started) <= left
    asked = await told(sdlc_reader, "budget.esc", *(each.number for each in crowd))
    assert len(asked) == (0 if left else 1)


async def test_runs_that_end_at_once_warn_once_and_lose_no_cost(
    stores: Sequence[PostgresSdlcStore], sdlc_reader: SdlcReader
) -> None:
    await stores[0].set_day_budget(100.0, 20.0)
    numbers = [f"REQ-{nth}" for nth in range(8)]
    crowd = [await bounded(stores[0], number, None) for number in numbers]
    for each in crowd:
        assert isinstance(await opened(each), StageContext)
    for nth, each in enumerate(crowd):
        each.store = stores[nth % 2]
    await asyncio.gather(*(spent(each, 3.0) for each in crowd))

    assert await told(sdlc_reader, "budget", *numbers) == ["budget.warning"]
    (budget,) = (await sdlc_reader.requirement("REQ-0")).budgets
    assert budget.spent == 24.0
