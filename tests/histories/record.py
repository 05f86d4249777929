"""Records the histories that every later version of the workflow must still be able to replay.

    .venv/bin/python -m tests.histories.record [SCENARIO …]

starts servers of its own in a temporary directory, runs every scenario, or those that are named, on
them with scripted agents and writes one JSON file each beside this script. Record again only when
a change of the order of commands is meant, and nothing released is running; commit the new files
alone, and say in the message which order changed and why no running requirement can be hurt by it.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
)
from temporalio.service import RPCError

from adapters.git import GitWorkspaces
from adapters.installation import Identity
from adapters.local_stack import LocalStack, StackAddresses
from adapters.nats import events as nats_events
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.store import create_store
from adapters.temporal.client import DATA_CONVERTER, SEARCH_ATTRIBUTES
from cli.hints import sasha_status
from pipeline.agents_file import AgentsFile
from pipeline.errors import DependencyUnavailable, RetriesExhausted
from pipeline.installation import Installation
from pipeline.model import (
    Alert,
    AlertKind,
    Answer,
    Bounds,
    BuildOutcome,
    BuildRequest,
    DecisionRequest,
    ExtensionRequest,
    FailureCollection,
    FailureReport,
    Hold,
    Pipeline,
    Priority,
    RequirementOrder,
    RetryRequest,
)
from pipeline.plan_rules import DELIVER
from pipeline.runbook import RUNBOOK, RunbookEntry
from tests.accounts import BY_CLAUDE, WORKS, resets_in
from tests.cluster import (
    NO_REPAIR,
    OF_ANY_TEAM,
    REPAIR,
    Cluster,
    ExitCodes,
    Handle,
    Scripts,
    delivered,
    ended,
    retry_when_possible,
    until,
)
from tests.fakes import RealClock, Script
from tests.fixtures_workspaces import GitProject
from tests.orchestra_plans import SOLO, team_of
from workflows import continuing, options
from workflows.requirement import RequirementWorkflow

HERE = Path(__file__).parent
HOUSE = HERE.parent.parent
IDENTITY = "recorder"
"""Instead of process and host name, which Temporal would record."""

ROY = "Backend Implementation"
FIX = "Fix build backend"
RESEARCHED = team_of("Research", "Backend")
"""Of a program and a simulated agent: the project is needed."""
DISK = Alert(AlertKind.DISK_LOW, "disk", "here", "1 MiB is free.")
PAUSE = timedelta(seconds=1)
"""After what could not be recorded."""

BOTH_SPECIALISTS: Scripts = {
    "Backend QA": [Script({"needs_todd": True})],
    "Frontend QA": [Script({"needs_vic": True})],
}
TROUBLE: Scripts = {
    "Critique": [Script({"critique_verdict": "ESCALATE", "reasons": ["whose budget?"]})],
    "Frontend Implementation": [Script(exit_code=1, output="no notice"), Script()],
}

RED_TESTS: Scripts = {
    "Backend QA": [Script({"test_result": "FAIL", "failures": ["greet() is wrong"]}), Script()],
    "Frontend QA": [Script(exit_code=1, output="no notice")],
}

UNDECIDED: Scripts = {
    "Critique": [
        Script({"critique_verdict": "REQUEST_CHANGES", "required_fixes": ["name the unit"]}),
        Script(),
    ],
}
QUESTION: Scripts = {"Research": [Script({"status": "BLOCKED", "summary": "which one?"}), Script()]}
LASTING = Script(lasts=True)
RED_BUILD: ExitCodes = {"backend": [2, 0]}
LASTING_FIX: Scripts = {FIX: [LASTING]}
BY_MIA: Scripts = {"Mobile Implementation": [Script({"needs_ada": True})]}
OURS: Scripts = {ROY: [Script(lasts=True, files={"shared.txt": "ours\n"})]}
CRASH: Scripts = {ROY: [Script(lasts=True, exit_code=1, output="no notice"), Script()]}
_ASKED = 4
QUESTIONS: Scripts = {"Research": [*[QUESTION["Research"][0]] * _ASKED, Script()]}
CONFLICT: Scripts = {
    ROY: [Script(files={"shared.txt": "backend\n"})],
    "Frontend Implementation": [Script(lasts=True, files={"shared.txt": "frontend\n"})],
    "Fix merge Frontend Implementation": [Script(files={"shared.txt": "both\n"})],
}

Answers = Callable[[Cluster, Handle], Awaitable[None]]


async def _nobody(cluster: Cluster, handle: Handle) -> None:
    """Nobody is asked."""


async def _approve_and_retry(cluster: Cluster, handle: Handle) -> None:
    await cluster.until_blocked(handle)
    approval = DecisionRequest(Answer.APPROVE, "ada", "ours")
    await handle.execute_update(RequirementWorkflow.decide, approval)
    await retry_when_possible(handle, ROY)


async def _retry_once_reminded(cluster: Cluster, handle: Handle) -> None:
    async def is_reminded() -> bool:
        return any("reminder" in event for event in await cluster.escalations(handle.id))

    await until(is_reminded, "a reminder")
    await retry_when_possible(handle, "Research")


async def _hold_for_p0(cluster: Cluster, handle: Handle) -> None:
    """A P0 that nobody has begun comes while the first agent runs."""
    await cluster.until_running("Research")
    number = f"{handle.id}-URGENT"
    order = RequirementOrder(number, "It burns.", Priority.P0, SOLO, False, None)
    await cluster.store.accept(order, "Nobody begins it yet.")
    await cluster.runs.let_end()
    await _until_held(cluster, handle)
    await delivered(await cluster.start(SOLO, number=number, priority=Priority.P0))


async def _apply_preemption_for_p0(cluster: Cluster, handle: Handle) -> None:
    """A P0 that pre-empts comes while an agent runs."""
    await cluster.until_running(ROY)
    number = f"{handle.id}-URGENT"
    cluster.runs.by_number[number] = LASTING
    urgent = await cluster.start(SOLO, number=number, priority=Priority.P0, pre_empts=True)
    await _until_held(cluster, handle)
    await cluster.runs.let_end(number)
    await delivered(urgent)
    await cluster.runs.let_end(handle.id)


async def _until_held(cluster: Cluster, handle: Handle) -> None:
    async def is_held() -> bool:
        return "workflow.held" in await cluster.types(handle.id)

    await until(is_held, f"{handle.id} is held")


async def _answer_again_and_again(cluster: Cluster, handle: Handle) -> None:
    for _ in range(_ASKED):
        await retry_when_possible(handle, "Research")


async def _merge_in_order(cluster: Cluster, handle: Handle) -> None:
    """The frontend's work conflicts with the backend's, which is merged first."""

    async def is_merged() -> bool:
        return any(e.get("stage") == ROY for e in await completed(cluster))

    async def completed(cluster: Cluster) -> list[Mapping[str, object]]:
        return [e for e in await cluster.events(handle.id) if e["eventType"] == "stage.completed"]

    await until(is_merged, "the backend is merged")
    await cluster.runs.let_end()


async def _repair_by_hand(cluster: Cluster, handle: Handle) -> None:
    """What Sasha could not repair, a human has, and says so."""
    number = await _escalated(cluster)
    cluster.cluster_care.alerts = []
    request = RetryRequest(DELIVER, "ada")
    await cluster.handle(number).execute_update(RequirementWorkflow.retry, request)


async def _escalated(cluster: Cluster) -> str:
    """The P0 that stands for what Sasha could not repair."""
    standing: list[str] = []

    async def is_asked() -> bool:
        with suppress(RPCError, DependencyUnavailable):  # nobody has called her yet, or it is slow
            standing[:] = (
                await sasha_status(cluster.identity.client, cluster.installation)
            ).escalated
        return bool(standing)

    await until(is_asked, "a human is asked")
    return standing[0]


async def _cancel(cluster: Cluster, handle: Handle) -> None:
    await cluster.until_running(ROY)
    await handle.cancel()


async def _cancel_during_its_fix(cluster: Cluster, handle: Handle) -> None:
    await cluster.until_running(FIX)
    await handle.cancel()


async def _allow_a_slot_then_extend(cluster: Cluster, handle: Handle) -> None:
    """It is queued for the first slot of a host, and has its deadline moved when it runs."""

    async def is_queued() -> bool:
        return cluster.runs.claims > 0

    await until(is_queued, "it asks for a slot")
    await cluster.runs.allow(1)
    await cluster.until_running(ROY)
    request = ExtensionRequest(ROY, 10, "ada", "nearly done")
    await handle.execute_update(RequirementWorkflow.extend, request)
    await cluster.runs.let_end()


async def _conflict_with_the_one_before(cluster: Cluster, handle: Handle) -> None:
    """It waits in line for one that delivers another version of the file that it has changed."""
    first = f"{handle.id}-FIRST"
    cluster.runs.by_number[first] = Script(files={"shared.txt": "first\n"})
    cluster.builds.hold(first)
    cluster.runs.on_start["Fix deliver"] = lambda worktree: GitProject(worktree).git(
        "merge", "--quiet", "-s", "ours", "main"
    )
    before = await cluster.start(RESEARCHED, number=first)

    async def is_building() -> bool:
        return any(request.ref.number == first for request in cluster.builds.requests)

    await until(is_building, f"{first} delivers")
    await cluster.runs.let_end()
    await _until_held(cluster, handle)
    cluster.builds.release(first)
    await delivered(before)


async def _end_orchestrator(cluster: Cluster, handle: Handle) -> None:
    """Somebody terminates the orchestrator alone; a human has the stage tried again."""
    await cluster.until_running(FIX)
    await cluster.handle(f"{handle.id}/round-1").terminate()
    await retry_when_possible(handle, ROY)


async def _hold_repair(cluster: Cluster, handle: Handle) -> None:
    """The build after a fix is held by an outage, then by a P0 that nobody has begun."""
    await cluster.until_running(FIX)
    number, away = f"{handle.id}-URGENT", iter(range(1))
    order = RequirementOrder(number, "It burns.", Priority.P0, SOLO, False, None)
    await cluster.store.accept(order, "Nobody begins it yet.")

    async def open_build(request: BuildRequest, subscriber: str) -> BuildOutcome | Hold | None:
        for _ in away:
            raise DependencyUnavailable("SDLC database", "its address", "Start it.")
        return await cluster.store.open_build(request, subscriber)

    vars(cluster.database)["open_build"] = open_build
    await cluster.runs.let_end()

    async def is_held() -> bool:
        events = await cluster.events(handle.id)
        return any(number in e["heldBy"] for e in events if e["eventType"] == "workflow.held")

    await until(is_held, f"{number} holds it")
    await delivered(await cluster.start(SOLO, number=number, priority=Priority.P0))


async def _give_repair_up(cluster: Cluster, handle: Handle) -> None:
    """The disk of the host is full; a human does without its repair."""
    await cluster.until_running(ROY)
    cluster.host_care.alerts = [DISK]
    await cluster.scheduled_check()
    number = await _escalated(cluster)

    async def waits() -> bool:
        history = await cluster.handle(number).fetch_history()
        return any(event.HasField("timer_started_event_attributes") for event in history.events)

    await until(waits, "it has looked")
    await cluster.handle(number).execute_update(
        RequirementWorkflow.decide, DecisionRequest(Answer.ABORT, "ada")
    )
    await ended(cluster.handle(number))
    await cluster.runs.let_end()


async def _fail_report(cluster: Cluster, handle: Handle) -> None:
    """What must be recorded before a human can be asked cannot be for a while."""
    failing = iter(range(1))

    async def block(collection: FailureCollection, report: FailureReport) -> None:
        for _ in failing:
            raise RetriesExhausted("It cannot be written.", 3, 10)
        await cluster.store.block(collection, report)

    vars(cluster.database)["block"] = block
    await cluster.runs.let_end()
    await retry_when_possible(handle, ROY)


@dataclass(frozen=True)
class Scenario:
    """A requirement to record: its pipeline, what its agents and builds do, and the answers."""

    pipeline: str | Pipeline
    scripts: Scripts = field(default_factory=dict)
    builds: ExitCodes = field(default_factory=dict)
    answers: Answers = _nobody
    bounds: Bounds = NO_REPAIR
    outage: tuple[Alert, ...] = ()
    """What is away when it begins."""
    is_curable: bool = True
    """Whether Sasha's first act brings that back."""
    calls_sasha: bool = False
    """Whether she is called although nothing is away when it begins."""
    sequential: bool = False
    priority: Priority = Priority.P2
    pre_empts: bool = False
    agents: AgentsFile | None = None
    """Who works with which account; None: with none."""
    slots: int | None = None
    """How many agents its host allows when it begins; None: as many as come."""
    has_project: bool = False
    events: int = continuing.EVENTS
    """The length after which it continues as new, also when it is replayed."""
    end: WorkflowExecutionStatus = WorkflowExecutionStatus.COMPLETED


SCENARIOS: Mapping[str, Scenario] = {
    "standard": Scenario("standard"),
    "final-stages": Scenario("final-stages", BOTH_SPECIALISTS),
    "critical-path": Scenario("critical-path"),
    "answers": Scenario("standard", TROUBLE, {"backend": [2, 0]}, _approve_and_retry),
    "repair": Scenario("standard", RED_TESTS, {"backend": [2, 0]}, bounds=REPAIR),
    "sequential": Scenario("standard", sequential=True),
    "rework": Scenario("standard", UNDECIDED, bounds=REPAIR),
    "reminder": Scenario(
        "standard",
        QUESTION,
        answers=_retry_once_reminded,
        bounds=replace(NO_REPAIR, reminder=timedelta(seconds=1)),
    ),
    "held": Scenario("standard", {"Research": [LASTING]}, answers=_hold_for_p0),
    "limited": Scenario(SOLO, {ROY: [resets_in(2), WORKS]}, agents=BY_CLAUDE),
    "pre-empted": Scenario("standard", {ROY: [LASTING]}, answers=_apply_preemption_for_p0),
    "cancelled": Scenario(
        "standard",
        {ROY: [LASTING]},
        answers=_cancel,
        end=WorkflowExecutionStatus.CANCELED,
    ),
    "continued": Scenario("standard", QUESTIONS, answers=_answer_again_and_again, events=40),
    "conflict": Scenario(
        "standard", CONFLICT, answers=_merge_in_order, bounds=REPAIR, has_project=True
    ),
    "infrastructure": Scenario(
        "standard",
        answers=_repair_by_hand,
        outage=(Alert(AlertKind.STREAMS_AMISS, "nats"),),
        is_curable=False,
    ),
    "outage": Scenario("standard", outage=(Alert(AlertKind.DATABASE_DOWN, "database"),)),
    "queued": Scenario(
        SOLO,
        {ROY: [LASTING]},
        answers=_allow_a_slot_then_extend,
        priority=Priority.P0,
        pre_empts=True,
        slots=0,
    ),
    "in-line": Scenario(
        RESEARCHED,
        OURS,
        answers=_conflict_with_the_one_before,
        bounds=REPAIR,
        has_project=True,
    ),
    "held-repair": Scenario(
        SOLO, LASTING_FIX, RED_BUILD, _hold_repair, bounds=REPAIR, calls_sasha=True
    ),
    "lost-repair": Scenario(SOLO, LASTING_FIX, RED_BUILD, _end_orchestrator, bounds=REPAIR),
    "cancelled-repair": Scenario(
        SOLO,
        LASTING_FIX,
        RED_BUILD,
        _cancel_during_its_fix,
        bounds=REPAIR,
        end=WorkflowExecutionStatus.CANCELED,
    ),
    "given-up": Scenario(
        SOLO, {ROY: [LASTING]}, answers=_give_repair_up, calls_sasha=True, events=5
    ),
    "unrecorded": Scenario(SOLO, CRASH, answers=_fail_report),
    "one-sided": Scenario("one-sided"),
    "monorepo": Scenario("monorepo", BY_MIA, {"orders": [2, 0]}, bounds=REPAIR, agents=OF_ANY_TEAM),
    "one-sided-frontend": Scenario("one-sided-frontend"),
}


async def main() -> None:
    """Record every scenario that is wanted."""
    wanted = sys.argv[1:] or list(SCENARIOS)
    with TemporaryDirectory(prefix="agog-") as home:
        async with LocalStack(Path(home)) as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            for name in wanted:
                histories = await record(stack, f"REQ-{name}", SCENARIOS[name])
                for below, history in enumerate(histories):
                    suffix = f"-{below}" if below else ""
                    (HERE / f"{name}{suffix}.json").write_text(history + "\n")


async def record(stack: StackAddresses, number: str, scenario: Scenario) -> list[str]:
    """Run one requirement to its end; its history, then those of the workflows below it.

    After an outage that of Sasha comes last.
    """
    client = await Client.connect(
        stack.temporal_address, data_converter=DATA_CONVERTER, identity=IDENTITY
    )
    store = create_store(stack.database_url)
    publisher = await nats_events.connect(stack.nats_url, stack.nats_user, stack.nats_password)
    await publisher.ensure_streams()
    # one of its own: nobody finds Sasha as another scenario has left her
    installation = Installation(f"{list(SCENARIOS.values()).index(scenario):08}")
    identity = Identity(client, store.database, installation)
    cluster = Cluster(client, RealClock(), store, publisher, "recorded", identity)
    with TemporaryDirectory(prefix="agog-") as place, as_recorded(scenario):
        async with cluster:
            found = await _histories(cluster, number, scenario, Path(place))
    await publisher.close()
    await store.close()
    return [_without_places(history.to_json()) for history in found]


def _without_places(text: str) -> str:
    """Stack traces of refusals name files, of ours and of the interpreter."""
    for place in (HOUSE, Path(sys.base_prefix)):
        text = text.replace(f"{place}/", "")
    return text


async def _histories(
    cluster: Cluster, number: str, scenario: Scenario, place: Path
) -> list[WorkflowHistory]:
    await cluster.open(
        scenario.scripts,
        scenario.builds,
        agents=scenario.agents,
        workspaces=_project(place) if scenario.has_project else None,
    )
    cluster.runs.slots = scenario.slots
    cluster.cluster_care.alerts = list(scenario.outage)
    for alert in (*scenario.outage, DISK):
        if scenario.is_curable and alert != DISK:
            cluster.cluster_care.cures[alert.kind] = 1
        else:  # nothing that Sasha does is given time to show
            remedies = cast(dict[AlertKind, RunbookEntry], RUNBOOK)
            remedies[alert.kind] = replace(remedies[alert.kind], shows_within=timedelta())
    handle = await cluster.start(
        scenario.pipeline,
        number=number,
        bounds=scenario.bounds,
        search_attributes=SEARCH_ATTRIBUTES,
        sequential=scenario.sequential,
        priority=scenario.priority,
        pre_empts=scenario.pre_empts,
    )
    await scenario.answers(cluster, handle)
    with suppress(WorkflowFailureError):  # one that is cancelled ends so
        report = await handle.result()
        assert report.state == "DELIVERED", report
    assert (await handle.describe()).status is scenario.end
    found = await cluster.family(number)
    if scenario.outage or scenario.calls_sasha:
        found += await cluster.family(cluster.installation.sasha)
    return found


def _project(place: Path) -> GitWorkspaces:
    project = GitProject(place / "project").init()
    project.commit({"shared.txt": "one\n"})
    return GitWorkspaces(project.root, place / "home")


@contextmanager
def as_recorded(scenario: Scenario) -> Iterator[None]:
    """Let histories continue as new after so many events, and pauses be short."""
    usual = continuing.EVENTS, options.FAULT_PAUSES
    continuing.EVENTS, options.FAULT_PAUSES = scenario.events, (PAUSE, PAUSE)
    try:
        yield
    finally:
        continuing.EVENTS, options.FAULT_PAUSES = usual


if __name__ == "__main__":
    asyncio.run(main())
