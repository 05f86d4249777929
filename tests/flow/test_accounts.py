"""A program's account that cannot work holds everybody who works with it, and fails nobody."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalNotifier
from pipeline import accounts
from pipeline.accounts import AfterLimit
from pipeline.model import (
    Ending,
    Priority,
    RequirementOrder,
    RequirementState,
    RunEnd,
    StageState,
)
from pipeline.plan_file import read_pipeline
from tests.accounts import BY_CLAUDE, CLAUDE, OVERLOADED, REFUSED, WORDS, WORKS, by, resets_in
from tests.cluster import NO_REPAIR, REPAIR, Cluster, Handle, delivered, until
from tests.fakes import Script
from tests.flow.test_p0_gate import until_held
from tests.orchestra_plans import FOUR, PAIR, SOLO, team_of

ROY, JEN = "Backend Implementation", "Frontend Implementation"
RESET_SECONDS = float(os.environ.get("AGOG_TEST_RESET_SECONDS", "8"))
"""In this time eight runs end and find that their account is limited."""
LATE = resets_in(3600)
"""A limit that is over when a human says so: how slow the machine is does not matter."""
ACCOUNT = "account claude-code"
THREE_AT_ONCE = read_pipeline(
    """
name = "three"
[[groups]]
name = "Research"
[[groups]]
name = "Implementation"
[[stages]]
name = "Research"
agent = "cynthia"
group = "Research"
minutes = 10
[[stages]]
name = "Backend Implementation"
agent = "roy"
group = "Implementation"
minutes = 10
builds = ["backend"]
[[stages]]
name = "Frontend Implementation"
agent = "jen"
group = "Implementation"
minutes = 10
builds = ["frontend"]
""",
    "three.toml",
)


async def resume(cluster: Cluster, *, at_once: bool = True) -> datetime:
    """What the command `accounts resume` does."""
    tried = await cluster.store.resume_account("claude-code", "ada", at_once=at_once)
    await TemporalNotifier(cluster._client).notify(await cluster.store.to_notify())
    return tried


async def told(cluster: Cluster, kind: str, *numbers: str) -> Sequence[Any]:
    events = [e for number in numbers or ("",) for e in await cluster.events(number)]
    return [event for event in events if event["eventType"] == kind]


async def starts(cluster: Cluster, reader: SdlcReader, *numbers: str) -> list[datetime]:
    runs = [run for number in numbers for run in await reader.runs(number)]
    return sorted(run.started_at for run in runs if run.started_at)


async def test_limit_with_a_reset_holds_eight_runs_of_three_requirements(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """All have begun when the first one meets it: nobody fails, and nothing is repaired."""
    limited = replace(resets_in(RESET_SECONDS), lasts=True)
    await cluster.open(
        {
            "Research": [limited] * 2 + [WORKS],
            ROY: [limited] * 3 + [WORKS],
            JEN: [limited] * 3 + [WORKS],
        },
        agents=BY_CLAUDE,
    )
    eight = (THREE_AT_ONCE, THREE_AT_ONCE, PAIR)
    numbers = [f"{cluster.number}-{nth}" for nth in range(len(eight))]
    handles = [
        await cluster.start(plan, number=number, bounds=REPAIR)
        for number, plan in zip(numbers, eight, strict=True)
    ]
    await until(lambda: _has_started(cluster, 8), "all have begun")
    await cluster.runs.let_end()
    await until(lambda: _are_all_held(sdlc_reader, numbers, 8), "all are held")
    limit = (await sdlc_reader.accounts())[0]
    view = await sdlc_reader.requirement(numbers[0])
    assert (view.state, view.waiting_for) == (RequirementState.HELD, ACCOUNT)
    assert limit.until
    assert WORDS in view.reason
    assert f"{limit.until:%H:%M:%S}" in view.reason
    await delivered(*handles)

    begun = await starts(cluster, sdlc_reader, *numbers)
    assert sum(each < limit.until for each in begun) == 8
    for number in numbers:
        assert await sdlc_reader.failures(number) == ()
        assert (await sdlc_reader.requirement(number)).fixes == ()
    assert len(await told(cluster, "account.limited", *numbers)) == 1
    assert len(await told(cluster, "account.resumed", *numbers)) == 1
    assert await sdlc_reader.accounts() == ()


async def test_session_that_met_a_limit_goes_on_in_the_same_attempt(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """Once a human ends the wait, and once its time is over."""
    limits = [replace(each, is_resumable=True) for each in (LATE, resets_in(1))]
    await cluster.open({ROY: [*limits, WORKS]}, agents=BY_CLAUDE)
    handle = await cluster.start(PAIR)
    await until_held(cluster, sdlc_reader)
    (run,) = [run for run in await sdlc_reader.runs(cluster.number) if run.agent == "roy"]
    assert (run.state, run.ended_at) == (StageState.HELD, None)
    await resume(cluster)
    await delivered(handle)

    roy = cluster.runs.orders[0].head
    stages = {
        stage.agent: stage for stage in (await sdlc_reader.requirement(cluster.number)).stages
    }
    assert [(s.attempt, s.starts, s.resumes) for s in stages.values()] == [(1, 1, 2), (1, 1, 0)]
    assert {order.head for order in cluster.runs.orders} == {roy}
    assert len(await told(cluster, "account.limited")) == 2
    assert [event["resumes"] for event in await told(cluster, "stage.resumed")] == [1, 2]
    assert len(await told(cluster, "stage.started")) == 2
    assert await sdlc_reader.failures(cluster.number) == ()
    assert await sdlc_reader.accounts() == ()


async def test_session_that_is_held_has_its_end_and_cost_when_its_requirement_is_cancelled(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    limited = replace(LATE, is_resumable=True)
    await cluster.open({ROY: [limited]}, agents=BY_CLAUDE)
    handle = await cluster.start(SOLO)
    await until_held(cluster, sdlc_reader)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    (run,) = await sdlc_reader.runs(cluster.number)
    assert (run.end, run.starts, run.resumes) == (RunEnd.EXITED, 1, 0)
    assert run.seconds is not None
    assert run.state is not StageState.HELD


async def test_session_that_died_is_resumed_at_once(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    died = Script(end=RunEnd.LOST, ending=Ending.CUT_OFF, is_resumable=True)
    await cluster.open({ROY: [died, WORKS]}, agents=BY_CLAUDE)
    await delivered(await cluster.start(SOLO))

    (stage,) = (await sdlc_reader.requirement(cluster.number)).stages
    assert (stage.attempt, stage.starts, stage.resumes) == (1, 1, 1)


async def _has_started(cluster: Cluster, runs: int) -> bool:
    return len(cluster.runs.orders) >= runs


async def _are_all_held(reader: SdlcReader, numbers: Sequence[str], stages: int) -> bool:
    views = [await reader.requirement(number) for number in numbers]
    return sum(len(view.holds) for view in views) == stages


async def test_one_run_goes_first_and_the_others_follow_once_it_has_ended(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    first = replace(WORKS, lasts=True)
    await cluster.open({"Research": [LATE, first, WORKS]}, agents=BY_CLAUDE)
    numbers = [f"{cluster.number}-{nth}" for nth in range(4)]
    one = await cluster.start(team_of("Research"), number=numbers[0])
    await until_held(cluster, sdlc_reader, numbers[0])
    others = [await cluster.start(team_of("Research"), number=number) for number in numbers[1:]]
    await until_held(cluster, sdlc_reader, *numbers)
    await resume(cluster)
    await until(lambda: _has_started(cluster, 2), "one tries")
    trier = cluster.runs.orders[1].number

    async def have_the_others_looked() -> bool:
        views = [await sdlc_reader.requirement(number) for number in {*numbers} - {trier}]
        return all(f"is tried by {trier} first" in view.reason for view in views)

    await until(have_the_others_looked, "the others find that it is tried")
    assert len(cluster.runs.orders) == 2
    await cluster.runs.let_end()
    await delivered(one, *others)


async def test_run_that_works_for_as_long_as_a_trial_lets_the_others_go(
    cluster: Cluster, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "TRIAL", timedelta(seconds=3))
    first = replace(WORKS, lasts=True)
    await cluster.open({"Research": [LATE, first]}, agents=BY_CLAUDE)
    one = await cluster.start(team_of("Research"))
    await until_held(cluster, sdlc_reader)
    await resume(cluster)
    await until(lambda: _has_started(cluster, 2), "it tries")
    other = await cluster.start(team_of("Research"), number=f"{cluster.number}-OTHER")
    await until(lambda: _has_started(cluster, 3), "the other one has started beside it")

    await cluster.runs.let_end()
    await delivered(one, other)


async def test_limit_without_a_time_is_tried_again_after_growing_pauses(
    cluster: Cluster, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PAUSES", (timedelta(seconds=1), timedelta(seconds=4)))
    await cluster.open({"Research": [*[OVERLOADED] * 4, WORKS]}, agents=BY_CLAUDE)
    await delivered(await cluster.start(team_of("Research"), bounds=REPAIR))

    begun = await starts(cluster, sdlc_reader, cluster.number)
    pauses = [(b - a).total_seconds() for a, b in pairwise(begun)]
    for pause, least in zip(pauses, (1, 2, 4, 4), strict=True):
        assert pause >= least
    assert await sdlc_reader.failures(cluster.number) == ()
    assert len(await told(cluster, "account.limited")) == 4


async def test_refused_login_asks_once_and_all_continue_when_it_is_answered(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    refused = replace(REFUSED, lasts=True)
    await cluster.open(
        {ROY: [refused, refused, WORKS], JEN: [refused, refused, WORKS]}, agents=BY_CLAUDE
    )
    numbers = [f"{cluster.number}-{nth}" for nth in range(2)]
    handles = [await cluster.start(FOUR, number=number, bounds=REPAIR) for number in numbers]
    await until(lambda: _has_started(cluster, 4), "all have begun")
    await cluster.runs.let_end()
    await until_held(cluster, sdlc_reader, *numbers, boundary=ROY)
    await until_held(cluster, sdlc_reader, *numbers, boundary=JEN)

    view = await sdlc_reader.requirement(numbers[1])
    assert "Invalid API key" in view.reason
    assert "starter.py accounts resume claude-code" in view.reason
    asked = [ask for number in numbers for ask in await cluster.escalations(number)]
    assert [ask["eventType"] for ask in asked] == ["account.escalation"]
    (account,) = await sdlc_reader.accounts()
    assert account.needs_human
    assert {held.number for held in account.held} == set(numbers)
    await resume(cluster)
    await delivered(*handles)
    for number in numbers:
        assert await sdlc_reader.failures(number) == ()


async def test_team_can_ask_before_it_resumes_after_a_limit(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    asking = by(replace(CLAUDE, after_limit=AfterLimit.ASK))
    await cluster.open({"Research": [resets_in(5), WORKS]}, agents=asking)
    handle = await cluster.start(team_of("Research"))
    await until_held(cluster, sdlc_reader)
    (account,) = await sdlc_reader.accounts()
    assert account.needs_human
    assert account.until

    assert await resume(cluster, at_once=False) == account.until
    await delivered(handle)
    assert (await starts(cluster, sdlc_reader, handle.id))[1] >= account.until


async def test_wait_can_be_ended_early(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open({"Research": [LATE, WORKS]}, agents=BY_CLAUDE)
    handle = await cluster.start(team_of("Research"))
    await until_held(cluster, sdlc_reader)

    assert await resume(cluster) <= datetime.now(UTC)
    await delivered(handle)


async def test_requirement_that_is_held_by_an_account_can_be_cancelled(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({"Research": [LATE, WORKS]}, agents=BY_CLAUDE)
    handle = await cluster.start(team_of("Research"))
    await until_held(cluster, sdlc_reader)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.holds) == (RequirementState.CANCELLED, ())
    other = await cluster.start(team_of("Research"), number=f"{cluster.number}-OTHER")
    await until_held(cluster, sdlc_reader, other.id)
    await resume(cluster)
    await delivered(other)


async def test_cancelled_trial_is_taken_over(
    cluster: Cluster, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "TRIAL", timedelta(seconds=3))
    await cluster.open({"Research": [LATE, replace(WORKS, lasts=True), WORKS]}, agents=BY_CLAUDE)
    waiting: dict[str, Handle] = {}
    for number in (cluster.number, f"{cluster.number}-OTHER"):
        beat = timedelta(seconds=2)
        waiting[number] = await cluster.start(team_of("Research"), number=number, heartbeat=beat)
        await until_held(cluster, sdlc_reader, number)
    await resume(cluster)
    await until(lambda: _has_started(cluster, 2), "one tries")
    trier = waiting.pop(cluster.runs.orders[1].number)
    await trier.cancel()
    with pytest.raises(WorkflowFailureError):
        await trier.result()

    await delivered(*waiting.values())


async def test_held_by_an_account_and_by_a_p0(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    """Both are shown; after the P0 the account alone holds it."""
    limit = replace(LATE, lasts=True)
    agents = by(CLAUDE, cynthia=replace(CLAUDE, account="another"))
    await cluster.open({ROY: [limit, WORKS]}, agents=agents)
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    urgent, plan = f"{cluster.number}-URGENT", replace(team_of("Research"), bounds=NO_REPAIR)
    order = RequirementOrder(urgent, "A title", Priority.P0, plan, False, None)
    await cluster.store.accept(order, "A description")
    await cluster.runs.let_end()
    await until_held(cluster, sdlc_reader, boundary=ROY)
    (hold,) = (await sdlc_reader.requirement(cluster.number)).holds
    assert set(hold.held_by) == {ACCOUNT, urgent}
    assert WORDS in hold.reason

    await delivered(await cluster.start(plan, number=urgent, priority=Priority.P0))

    async def holds_alone() -> bool:
        view = await sdlc_reader.requirement(cluster.number)
        return view.waiting_for == ACCOUNT

    await until(holds_alone, "only the account holds it")
    await resume(cluster)
    await delivered(handle)


async def test_hold_outlives_the_worker(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open({"Research": [resets_in(5), WORKS]}, agents=BY_CLAUDE)
    handle = await cluster.start(team_of("Research"))
    await until_held(cluster, sdlc_reader)
    await cluster.close()
    await cluster.open_again()
    await delivered(handle)
    assert cluster.runs.started() == ["Research"] * 2


async def test_fix_that_meets_a_limit_is_held_and_repairs_afterwards(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    fix = "Fix build backend"
    await cluster.open({fix: [LATE, WORKS], ROY: [WORKS]}, {"backend": [2, 0]}, agents=BY_CLAUDE)
    handle: Handle = await cluster.start(SOLO, bounds=REPAIR)
    number = f"{cluster.number}-FIX-1"
    await cluster.until_running(fix)
    await until_held(cluster, sdlc_reader, number)
    await resume(cluster)
    await delivered(handle)

    assert len((await sdlc_reader.requirement(cluster.number)).fixes) == 1


async def test_agent_with_another_account_works_on(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """What another account holds is shown as long as it holds, whatever starts beside it."""
    await cluster.open(
        {ROY: [LATE, WORKS], JEN: [replace(WORKS, lasts=True)]},
        agents=by(CLAUDE, jen=replace(CLAUDE, account="another")),
    )
    handle = await cluster.start(FOUR)
    await until_held(cluster, sdlc_reader, boundary=ROY)
    await cluster.until_running(JEN)
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, [hold.boundary for hold in view.holds]) == (RequirementState.HELD, [ROY])

    await cluster.runs.let_end()
    await resume(cluster)
    await delivered(handle)
