"""The row of an account that cannot work: who is held, who tries, and what ends it."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore, create_store
from adapters.sdlc.views import AccountView
from pipeline import accounts
from pipeline.accounts import Limit
from pipeline.errors import RefusedInput
from pipeline.model import (
    FailureKind,
    Hold,
    Priority,
    RequirementState,
    RunEnd,
    RunResult,
    StageContext,
    StageOutcome,
    StageSkip,
    StageState,
)
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    PLAN,
    RESEARCH,
    Requirement,
    a_failure,
    accept,
)

ACCOUNT, HOUR = "claude-code", timedelta(hours=1)
BY = (f"account {ACCOUNT}",)
CROWD = 40


async def opened(each: Requirement, name: str, attempt: int = 1) -> StageContext | Hold:
    return await each.store.open_stage(each.request(name, attempt), each.number, ACCOUNT)


async def held(each: Requirement, name: str, attempt: int = 1) -> Hold:
    hold = await opened(each, name, attempt)
    assert isinstance(hold, Hold), hold
    return hold


async def tries(each: Requirement, name: str, attempt: int = 1) -> None:
    assert isinstance(await opened(each, name, attempt), StageContext)


async def ended(
    each: Requirement,
    name: str,
    attempt: int = 1,
    limit: Limit | None = None,
    end: RunEnd = RunEnd.EXITED,
) -> bool:
    """A run that failed: by a limit, or otherwise."""
    kind = FailureKind.LIMITED if limit else FailureKind.INFRASTRUCTURE
    failure = a_failure(name, f"run {name}", kind=kind, owners=())
    outcome = StageOutcome(name, attempt, StageState.FAILED, None, True, failure=failure)
    result = RunResult(end, 1, "", "", None, None, 1, "log")
    closed = await each.store.close_stage(
        each.request(name, attempt), outcome, result, None, None, limit
    )
    return closed.may_notify


def a_limit(until: datetime | None = None, *, needs_human: bool = False) -> Limit:
    return Limit(ACCOUNT, "You've hit your limit", until, needs_human)


def later(by: timedelta = HOUR) -> datetime:
    return datetime.now(UTC) + by


@pytest.fixture
async def two(sdlc_store: PostgresSdlcStore) -> tuple[Requirement, Requirement]:
    first, second = (Requirement(sdlc_store, f"REQ-{nth}") for nth in (1, 2))
    return await first.begun(), await second.begun()


async def limited(each: Requirement, limit: Limit) -> None:
    await each.open_stage(RESEARCH)
    await ended(each, RESEARCH, limit=limit)


async def the_account(reader: SdlcReader) -> AccountView:
    (account,) = await reader.accounts()
    return account


async def release(store: PostgresSdlcStore) -> datetime:
    return await store.resume_account(ACCOUNT, "ada", at_once=True)


async def test_a_human_is_reminded_of_an_account_while_somebody_is_held_by_it(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await limited(ours, a_limit(needs_human=True))

    async def reminded(days: float) -> list[str]:
        await sdlc_store.remind_of_holds(later(timedelta(days=days)))
        events = [
            each for number in ("REQ-1", "REQ-2") for each in await sdlc_reader.events(number)
        ]
        return [each.number for each in events if each.type == "escalation.reminder"]

    assert await reminded(2) == []  # nobody waits
    await held(other, BACKEND)
    assert await reminded(2) == ["REQ-2"]
    assert await reminded(2) == ["REQ-2"]
    await held(ours, RESEARCH, 2)
    assert sorted(await reminded(4)) == ["REQ-1", "REQ-2"]
    await release(sdlc_store)
    assert len(await reminded(100)) == 2


async def test_limit_holds_whoever_opens_with_the_account_until_its_reset(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    until = later()
    await limited(ours, a_limit(until))

    for each, attempt in ((ours, 2), (other, 1)):
        hold = await held(each, RESEARCH, attempt)
        assert (hold.by, hold.until, hold.account) == (BY, until, ACCOUNT)
        assert "You've hit your limit" in hold.reason
    assert (await sdlc_store.to_notify()).workflow_ids == ()
    account = await the_account(sdlc_reader)
    assert [(each.number, each.stage) for each in account.held] == [
        ("REQ-1", RESEARCH),
        ("REQ-2", RESEARCH),
    ]
    view = await sdlc_reader.requirement("REQ-2")
    assert (view.state, view.waiting_for) == (RequirementState.HELD, BY[0])


async def test_other_accounts_and_stages_without_one_are_not_held(
    two: tuple[Requirement, Requirement],
) -> None:
    ours, other = two
    await limited(ours, a_limit(later()))

    assert isinstance(await other.try_stage(RESEARCH), StageContext)


async def test_limited_run_is_no_error_that_the_next_attempt_is_told_of(
    two: tuple[Requirement, Requirement], sdlc_reader: SdlcReader
) -> None:
    ours, _ = two
    await limited(ours, a_limit())
    await release(ours.store)
    context = await opened(ours, RESEARCH, 2)

    assert isinstance(context, StageContext)
    assert context.failures == ()


async def test_first_to_open_after_the_reset_tries_and_its_end_lets_the_others_go(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await limited(ours, a_limit(later()))
    await held(ours, RESEARCH, 2)
    await release(sdlc_store)
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    await tries(other, RESEARCH)
    await tries(other, RESEARCH)  # a repeat finds itself trying
    hold = await held(ours, RESEARCH, 2)
    assert "is tried by REQ-2 first" in hold.reason
    assert hold.until is not None
    assert (await sdlc_store.to_notify()).workflow_ids == ()

    await other.close_stage(RESEARCH)

    assert await sdlc_reader.accounts() == ()
    notification = await sdlc_store.to_notify()
    assert notification.workflow_ids == ("REQ-1",)
    assert notification.gate_version > hold.gate_version
    await tries(ours, RESEARCH, 2)
    assert (await sdlc_reader.requirement("REQ-1")).holds == ()


async def test_trier_that_is_limited_again_waits_longer_and_tells_those_who_are_held(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    await held(other, RESEARCH)
    assert await ended(ours, RESEARCH, 2, a_limit())

    account = await the_account(sdlc_reader)
    assert account.until
    assert account.until - later(timedelta()) > 1.5 * accounts.PAUSES[0]
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-2",)
    assert (await held(other, RESEARCH)).until == account.until
    assert (await sdlc_store.to_notify()).workflow_ids == ()


async def test_runs_that_meet_the_limit_with_the_first_one_do_not_lengthen_the_pause(
    two: tuple[Requirement, Requirement], sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await other.open_stage(RESEARCH)
    await limited(ours, a_limit())
    first = await the_account(sdlc_reader)
    await ended(other, RESEARCH, limit=a_limit())

    assert (await the_account(sdlc_reader)).until == first.until
    told = [event.type for n in ("REQ-1", "REQ-2") for event in await sdlc_reader.events(n)]
    assert told.count("account.limited") == 1


async def test_run_that_began_before_the_limit_does_not_end_it(
    two: tuple[Requirement, Requirement], sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await other.open_stage(RESEARCH)
    await limited(ours, a_limit(later()))
    await other.close_stage(RESEARCH)

    assert await sdlc_reader.accounts()


@pytest.mark.parametrize("end", [RunEnd.LOST, RunEnd.CANCELLED])
async def test_lost_trier_has_shown_nothing_and_the_next_one_tries(
    two: tuple[Requirement, Requirement],
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    end: RunEnd,
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    await held(other, RESEARCH)
    assert await ended(ours, RESEARCH, 2, end=end)

    assert (await the_account(sdlc_reader)).trying is None
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-2",)
    await tries(other, RESEARCH)
    await held(ours, RESEARCH, 3)


async def test_trier_whose_requirement_has_ended_is_replaced(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    await ours.close(RequirementState.CANCELLED)

    await tries(other, RESEARCH)


async def test_attempt_of_a_lost_host_is_taken_over_by_the_next_one_of_its_stage(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)

    await tries(ours, RESEARCH, 3)
    await held(other, RESEARCH)


async def test_trier_that_never_starts_is_replaced_after_the_time_of_a_trial(
    two: tuple[Requirement, Requirement],
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    monkeypatch.setattr(accounts, "TRIAL", timedelta())

    await tries(other, RESEARCH)
    trying = (await the_account(sdlc_reader)).trying
    assert trying
    assert trying.startswith("REQ-2/")


async def test_trier_that_works_for_the_time_of_a_trial_has_its_account_again(
    two: tuple[Requirement, Requirement],
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other = two
    await limited(ours, a_limit())
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    await sdlc_store.start_run(ours.request(RESEARCH, 2), datetime.now(UTC), "")
    await held(other, RESEARCH)
    monkeypatch.setattr(accounts, "TRIAL", timedelta())

    await tries(other, RESEARCH)
    assert await sdlc_reader.accounts() == ()


async def test_session_that_met_a_limit_stays_open_and_is_held_until_it_may_go_on(
    two: tuple[Requirement, Requirement],
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
) -> None:
    ours, other = two
    request, at = ours.request(RESEARCH), datetime.now(UTC) - HOUR
    await ours.open_stage(RESEARCH)
    await sdlc_store.start_run(request, at, "c0ffee", "s-1")
    for _ in range(2):  # a repeat says nothing new
        await sdlc_store.limit_account(request, a_limit(later()))
        hold = await sdlc_store.open_stage(request, "REQ-1", ACCOUNT, 1)
        assert isinstance(hold, Hold)
    assert (await sdlc_reader.requirement("REQ-1")).stages[0].state is StageState.HELD
    await release(sdlc_store)

    for _ in range(2):
        context = await sdlc_store.open_stage(request, "REQ-1", ACCOUNT, 1)
        assert isinstance(context, StageContext)
        assert context.started_at is None  # it is to be started, though it was once
    # It was started an hour ago, but it tries the account since a moment: nobody follows yet.
    assert "is tried by REQ-1 first" in (await held(other, RESEARCH)).reason
    (run,) = await sdlc_reader.runs("REQ-1")
    assert (run.state, run.starts, run.resumes) == (StageState.RUNNING, 1, 1)
    assert (run.session, run.started_at) == ("s-1", at)
    told = [event.type for event in await sdlc_reader.events("REQ-1")]
    assert told.count("account.limited") == told.count("stage.resumed") == 1


async def test_stage_that_waits_for_a_slot_does_not_try(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await limited(ours, a_limit(later()))
    queue = sdlc_store.queue_stage
    assert isinstance(await queue(other.request(RESEARCH), "REQ-2", ACCOUNT), Hold)
    await release(sdlc_store)

    assert await queue(other.request(RESEARCH), "REQ-2", ACCOUNT) is None
    assert (await the_account(sdlc_reader)).trying is None


async def test_human_is_asked_once_and_the_answer_lets_one_try(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours, other = two
    await other.open_stage(RESEARCH)
    await limited(ours, a_limit(needs_human=True))
    await ended(other, RESEARCH, limit=a_limit(needs_human=True))
    hold = await held(ours, RESEARCH, 2)
    assert hold.until is None
    assert f"starter.py accounts resume {ACCOUNT}" in hold.reason

    said = [event for n in ("REQ-1", "REQ-2") for event in await sdlc_reader.events(n)]
    asked = [event for event in said if event.type == "account.escalation"]
    assert [event.subject for event in asked] == ["agog.escalations.REQ-1"]
    await release(sdlc_store)
    await tries(ours, RESEARCH, 2)
    await held(other, RESEARCH, 2)
    with pytest.raises(RefusedInput, match="Nothing is known of account 'codex'"):
        await sdlc_store.resume_account("codex", "ada", at_once=True)


async def test_question_after_a_limit_keeps_its_reset_unless_it_is_to_be_at_once(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore
) -> None:
    ours, _ = two
    until = later()
    await limited(ours, a_limit(until, needs_human=True))
    await held(ours, RESEARCH, 2)

    assert await sdlc_store.resume_account(ACCOUNT, "ada", at_once=False) == until
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)  # its hold asks a human still
    assert (await held(ours, RESEARCH, 2)).until == until
    assert await sdlc_store.resume_account(ACCOUNT, "ada", at_once=False) < until


async def test_stage_beside_one_that_is_held_does_not_end_its_hold(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await Requirement(sdlc_store).begun()
    await ours.run_up_to(RESEARCH, CRITIQUE)
    await ours.open_stage(BACKEND)
    await ended(ours, BACKEND, limit=a_limit(later()))
    await held(ours, BACKEND, 2)
    await ours.open_stage(FRONTEND)

    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, [each.boundary for each in view.holds]) == (
        RequirementState.HELD,
        [BACKEND],
    )
    await release(sdlc_store)
    await tries(ours, BACKEND, 2)
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.holds) == (RequirementState.RUNNING, ())


async def test_held_stage_that_is_skipped_holds_nothing_after_the_next_boundary(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    ours = await Requirement(sdlc_store).begun()
    await limited(ours, a_limit(later()))
    await held(ours, RESEARCH, 2)
    await sdlc_store.skip_stages([StageSkip(ours.ref, PLAN.stage(RESEARCH), 2, "No flag.")])
    await ours.open_stage(CRITIQUE)

    view = await sdlc_reader.requirement("REQ-1")
    assert (view.state, view.holds) == (RequirementState.RUNNING, ())


async def test_p0_and_account_are_one_hold_of_both(
    two: tuple[Requirement, Requirement], sdlc_store: PostgresSdlcStore
) -> None:
    ours, _ = two
    await limited(ours, a_limit(later()))
    await accept(sdlc_store, "REQ-9", Priority.P0)
    hold = await held(ours, RESEARCH, 2)
    assert hold.by == ("REQ-9", *BY)

    urgent = Requirement(sdlc_store, "REQ-9")
    await urgent.open()
    await urgent.close()
    assert (await sdlc_store.to_notify()).workflow_ids == ("REQ-1",)
    assert (await held(ours, RESEARCH, 2)).by == BY


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Sequence[PostgresSdlcStore]]:
    stores = [create_store(database_url) for _ in range(3)]
    yield stores
    for store in stores:
        await store.close()


async def test_of_many_that_open_at_once_after_the_reset_one_tries(
    stores: Sequence[PostgresSdlcStore], sdlc_reader: SdlcReader
) -> None:
    crowd = [Requirement(stores[nth % 3], f"REQ-{nth}") for nth in range(CROWD)]
    for each in crowd:
        await each.begun()
    await limited(crowd[0], a_limit(later(timedelta(seconds=-1))))
    await release(stores[0])
    attempts = {each.number: 1 for each in crowd} | {"REQ-0": 2}
    for nth in range(1, 4):
        outcomes = await asyncio.gather(
            *(opened(each, RESEARCH, attempts[each.number]) for each in crowd)
        )
        (first,) = [e for e, o in zip(crowd, outcomes, strict=True) if isinstance(o, StageContext)]
        # It meets the limit again while the others look again, and a human ends the wait.
        again = random.Random(nth).sample([each for each in crowd if each is not first], 20)
        await asyncio.gather(
            ended(first, RESEARCH, attempts[first.number], a_limit()),
            release(stores[0]),
            *(opened(each, RESEARCH, attempts[each.number]) for each in again),
        )
        attempts[first.number] += 1
        await release(stores[nth % 3])
    trying = (await the_account(sdlc_reader)).trying
    assert trying is None
