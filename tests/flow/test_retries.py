"""What fails is tried again in everybody's sight, no longer than its bound, and costs no agent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import is_cancelled_exception

from activities.delivery import clean_leftovers
from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.errors import GitFailed, ProjectRefused
from pipeline.model import (
    OPENING,
    Answer,
    DecisionRequest,
    FailureKind,
    MergeResult,
    RequirementState,
    RetryRequest,
    StageState,
)
from pipeline.plan_rules import DELIVER
from tests.cluster import REPAIR, Cluster, Handle, delivered, ended, until
from tests.fakes import Script
from tests.orchestra_plans import team_of
from workflows.requirement import RequirementWorkflow

ROY = "Backend Implementation"
FIRST = "Research"
ONE = team_of(FIRST)
"""One stage, whose agent works in the project."""
SHORT = timedelta(seconds=1)
BEAT = timedelta(seconds=1)
WORDS = "git merge-tree: exit code 128: fatal: unable to read tree"


class Failing:
    """Workspaces some of whose methods fail as long as a test says."""

    def __init__(self, workspaces: GitWorkspaces) -> None:
        self._workspaces = workspaces
        self.errors: dict[str, Exception] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object, **named: object) -> object:
            self.calls.append(name)
            if error := self.errors.get(name):
                raise error
            return await getattr(self._workspaces, name)(*arguments, **named)

        return call


@pytest.fixture
def failing(workspaces: GitWorkspaces) -> Failing:
    return Failing(workspaces)


async def opened(
    cluster: Cluster,
    failing: Failing,
    scripts: dict[str, list[Script]] | None = None,
    bound: timedelta = SHORT,
) -> None:
    await cluster.open(scripts, workspaces=failing, retry_bound=bound)  # type: ignore[arg-type] # one


def retry(stage: str) -> RetryRequest:
    return RetryRequest(stage, "ada", "try again")


async def test_step_that_fails_for_a_while_is_shown_and_costs_nothing(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    await opened(cluster, failing, bound=timedelta(minutes=5))
    failing.errors["integrate"] = GitFailed(WORDS)
    handle = await cluster.start(ONE)

    async def is_shown() -> bool:
        view = await sdlc_reader.requirement(cluster.number)
        return any(retry.tries > 2 for retry in view.retries)

    await until(is_shown, "the retry is shown")
    (shown,) = (await sdlc_reader.requirement(cluster.number)).retries
    assert (shown.number, shown.step) == (cluster.number, f"{FIRST}: take over its work")
    assert shown.error == WORDS
    assert shown.since < shown.last_at
    (listed,) = await sdlc_reader.requirements(waiting=True)
    assert [each.step for each in listed.retries] == [shown.step]
    failing.errors.clear()
    await delivered(handle)

    view = await sdlc_reader.requirement(cluster.number)
    assert view.retries == ()
    assert [(stage.attempt, stage.starts) for stage in view.stages] == [(1, 1)]
    assert "workflow.blocked" not in await cluster.types()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GitFailed(WORDS), FailureKind.INFRASTRUCTURE),
        (OSError(5, "Input/output error"), FailureKind.INFRASTRUCTURE),
        (ProjectRefused("refs/agog/x is gone"), FailureKind.REFUSED),
    ],
)
@pytest.mark.parametrize("step", ["prepare", "integrate"])
async def test_what_fails_for_too_long_asks_a_human_and_retry_repeats_it_alone(
    cluster: Cluster,
    failing: Failing,
    sdlc_reader: SdlcReader,
    step: str,
    error: Exception,
    kind: str,
) -> None:
    """No try, no red, no fix; the agent that has ended is not started again."""
    await opened(cluster, failing)
    failing.errors[step] = error
    handle = await cluster.start(ONE, bounds=REPAIR)
    await cluster.until_blocked(handle)

    view = await sdlc_reader.requirement(cluster.number)
    (failure,) = view.failures
    assert failure.kind == kind
    assert str(error) in failure.error
    assert (view.waiting_for, view.fixes, view.retries) == ("human", (), ())
    assert view.escalation
    assert str(error) in view.escalation.asks[0].reason
    assert len(cluster.runs.orders) == (step == "integrate")
    for _ in range(2):  # it may fail again, as often as it likes
        await handle.execute_update(RequirementWorkflow.retry, retry(FIRST))
        await until_asked(cluster, handle)
    failing.errors.clear()
    await handle.execute_update(RequirementWorkflow.retry, retry(FIRST))
    await delivered(handle)

    assert len(cluster.runs.orders) == 1
    (run,) = await sdlc_reader.runs(cluster.number)
    assert (run.attempt, run.state, run.starts) == (1, StageState.COMPLETED, 1)
    events = await cluster.events()
    assert len({str(event["eventId"]) for event in events}) == len(events)
    assert (await cluster.types()).count("stage.started") == 1


async def until_asked(cluster: Cluster, handle: Handle) -> None:
    """Wait until the human is asked anew: the answer's own events come first."""
    await cluster.until_blocked(handle)


async def test_agent_whose_work_is_refused_has_a_red_gate_and_repairs_it(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader, workspaces: GitWorkspaces
) -> None:
    """What git says of an agent's work is the agent's at once, and is not tried again."""
    await opened(cluster, failing)
    said = "fatal: docs/a.txt: smudge filter lfs failed"

    async def refused(request: object, summary: str) -> MergeResult:
        head = await workspaces.head(cluster.number)
        return MergeResult(head, head.commit, refusal=said)

    object.__setattr__(failing, "integrate", refused)
    handle = await cluster.start(ONE)
    await cluster.until_blocked(handle)

    (failure,) = (await sdlc_reader.requirement(cluster.number)).failures
    assert (failure.kind, failure.owners, failure.gate) == (
        "failed",
        ("cynthia",),
        f"merge {FIRST}",
    )
    assert failure.error == said
    assert "keep" in failing.calls
    view = await sdlc_reader.requirement(cluster.number)
    assert [(g.gate, g.verdict) for g in view.gates if g.gate.startswith("merge")] == [
        (f"merge {FIRST}", "red")
    ]


async def test_build_that_cannot_be_made_is_made_again_alone(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    """The work is merged and stands: only the check failed, so no agent is paid for it."""
    await opened(cluster, failing)
    failing.errors["checkout_build"] = GitFailed(WORDS)
    handle = await cluster.start(team_of(FIRST, "Backend", "Quality Assurance"), bounds=REPAIR)
    await cluster.until_blocked(handle)

    (failure,) = (await sdlc_reader.requirement(cluster.number)).failures
    assert (failure.kind, failure.gate, failure.owners) == ("infrastructure", "build backend", ())
    failing.errors.clear()
    reopened = await handle.execute_update(RequirementWorkflow.retry, retry(ROY))
    assert set(reopened.stages) == {ROY, "Backend QA", "Frontend QA"}
    await delivered(handle)

    assert cluster.runs.started().count(ROY) == 1
    assert (await sdlc_reader.requirement(cluster.number)).failures == ()


async def test_delivery_that_cannot_be_made_asks_a_human(
    cluster: Cluster, failing: Failing
) -> None:
    await opened(cluster, failing)
    failing.errors["swap_target"] = GitFailed(WORDS)
    handle = await cluster.start(ONE)
    await cluster.until_blocked(handle)

    (failure,) = (await cluster.blocked())["failures"]
    assert (failure["kind"], failure["gate"]) == ("infrastructure", DELIVER)
    failing.errors.clear()
    await handle.execute_update(RequirementWorkflow.retry, retry(DELIVER))
    await delivered(handle)
    assert len(cluster.runs.orders) == 1


@pytest.mark.parametrize("answer", ["retry", "abort", "cancel"])
async def test_opening_that_fails_for_too_long_asks_a_human(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader, answer: str
) -> None:
    await opened(cluster, failing)
    failing.errors["open"] = GitFailed(WORDS)
    handle = await cluster.start(ONE)
    await cluster.until_blocked(handle)

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.BLOCKED, "human")
    assert view.escalation
    assert view.escalation.answers == (f"retry {OPENING}", "decide abort")
    assert WORDS in view.escalation.asks[0].reason
    if answer == "retry":
        failing.errors.clear()
        await handle.execute_update(RequirementWorkflow.retry, retry(OPENING))
        await delivered(handle)
    elif answer == "abort":
        abort = DecisionRequest(Answer.ABORT, "ada", "")
        await handle.execute_update(RequirementWorkflow.decide, abort)
        assert (await ended(handle)).state is RequirementState.FAILED
    else:
        await handle.cancel()
        await check_cancelled(handle)


async def check_cancelled(handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert is_cancelled_exception(caught.value.cause)


@pytest.mark.parametrize("how", ["cancel", "abort"])
async def test_end_is_not_prevented_by_what_cannot_be_cleaned_up(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader, how: str
) -> None:
    """It is named in a row and an event, and its host cleans it up later."""
    await opened(cluster, failing, {FIRST: [Script({"status": "FAILED", "summary": "no"})]})
    failing.errors["release"] = GitFailed("fatal: broken config")
    handle = await cluster.start(ONE)
    await cluster.until_blocked(handle)

    began = time.monotonic()
    if how == "cancel":
        await handle.cancel()
        await check_cancelled(handle)
    else:
        abort = DecisionRequest(Answer.ABORT, "ada", "")
        await handle.execute_update(RequirementWorkflow.decide, abort)
        assert (await ended(handle)).state is RequirementState.FAILED
    assert time.monotonic() - began < 60

    view = await sdlc_reader.requirement(cluster.number)
    assert view.state.is_final
    assert view.leftover
    assert "fatal: broken config" in view.leftover.reason
    assert (view.leftover.host, view.leftover.cleaned_at) == (cluster.host, None)
    assert view.retries == ()
    assert "workflow.uncleaned" in await cluster.types()
    cleaning = asyncio.create_task(clean_leftovers(cluster.ports, interval=0.05))

    async def tries() -> bool:
        (left,) = await sdlc_reader.leftovers()
        return left.tries > 2

    await until(tries, "the host tries again")
    failing.errors.clear()

    async def is_clean() -> bool:
        return not await sdlc_reader.leftovers()

    await until(is_clean, "everything is cleaned up")

    async def is_told() -> bool:
        return "workflow.cleaned" in await cluster.types()

    await until(is_told, "the event is published")
    cleaning.cancel()


async def test_requirement_of_a_host_that_is_away_for_good_is_cancelled(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    await opened(cluster, failing, {FIRST: [Script({"status": "FAILED", "summary": "no"})]})
    handle = await cluster.start(ONE)
    await cluster.until_blocked(handle)
    await cluster.lose_host()

    began = time.monotonic()
    await handle.cancel()
    await check_cancelled(handle)

    assert time.monotonic() - began < 60
    view = await sdlc_reader.requirement(cluster.number)
    assert view.leftover
    assert view.leftover.host == cluster.host


async def test_step_that_fails_is_cancelled_at_once(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    await opened(cluster, failing, bound=timedelta(minutes=10))
    failing.errors = dict.fromkeys(("integrate", "keep", "release"), GitFailed(WORDS))
    handle = await cluster.start(ONE, heartbeat=BEAT)

    async def fails() -> bool:
        return bool((await sdlc_reader.requirement(cluster.number)).retries)

    await until(fails, "the merge fails")
    began = time.monotonic()
    await handle.cancel()
    await check_cancelled(handle)

    assert time.monotonic() - began < 60
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.retries) == (RequirementState.CANCELLED, ())


async def test_abort_during_a_repair_never_fails_the_workflow(
    cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    """One failure is repaired, another one asks a human, who gives up; nothing can be cleaned."""
    asks = Script({"status": "BLOCKED", "summary": "which database?"})
    crash = Script(exit_code=1, output="no notice")
    slow = Script(minutes=600_000)
    jen = "Frontend Implementation"
    await opened(cluster, failing, {ROY: [asks], jen: [crash], f"Fix run {jen}": [slow]})
    handle = await cluster.start(team_of(FIRST, "Implementation"), bounds=REPAIR, heartbeat=BEAT)
    await cluster.until_running(f"Fix run {jen}")
    failing.errors = dict.fromkeys(("keep", "release", "open", "head"), ProjectRefused(WORDS))

    began = time.monotonic()
    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await handle.execute_update(RequirementWorkflow.decide, abort)
    report = await ended(handle)

    assert time.monotonic() - began < 60
    assert report.state is RequirementState.FAILED
    view = await sdlc_reader.requirement(cluster.number)
    assert view.state is RequirementState.FAILED
    assert all(fix.state.is_final for fix in view.fixes)


async def test_failing_for_minutes_is_within_the_bound(
    day_cluster: Cluster, failing: Failing, sdlc_reader: SdlcReader
) -> None:
    """Virtual time: pauses grow to ten seconds, and the default bound is ten minutes."""
    tries = 35

    class Fails(dict[str, Exception]):
        def get(self, name: str, default: Exception | None = None) -> Exception | None:  # type: ignore[override] # of this one
            is_meant = name == "integrate" and failing.calls.count(name) <= tries
            return GitFailed(WORDS) if is_meant else default

    failing.errors = Fails()
    await day_cluster.open(workspaces=failing)  # type: ignore[arg-type] # one
    elapsed = await day_cluster.deliver(ONE)

    assert timedelta(minutes=4) < elapsed - timedelta(minutes=10) < timedelta(minutes=9)
    assert len(day_cluster.runs.orders) == 1
