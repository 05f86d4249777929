"""Deliveries to one target take turns: who waits, who goes first, and what gives a turn up."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError

from adapters.care.records import RecordCare
from adapters.git import GitWorkspaces
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalNotifier
from pipeline.model import (
    Alert,
    AlertKind,
    Answer,
    BuildRequest,
    BuildResult,
    DecisionRequest,
    Notification,
    Pipeline,
    Priority,
    RequirementState,
)
from pipeline.plan_rules import DELIVER
from tests.cluster import REPAIR, Cluster, Handle, delivered, ended, retry_when_possible
from tests.eventually import eventually_async
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject
from tests.orchestra_plans import team_of
from workflows import options
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

PLAN = team_of("Research", "Backend")
"""Of a program and a simulated agent: the project is needed."""


class Builds:
    """Builds that a test makes red and counts, by requirement."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._run = cluster.builds.run
        self.before: Callable[[str], object] = lambda number: None
        self.red: set[str] = set()
        cluster.builds.run = self.run  # type: ignore[method-assign] # the ports hold this object

    def hold(self, number: str) -> None:
        self._cluster.builds.hold(number)

    def release(self, number: str) -> None:
        self._cluster.builds.release(number)

    def count(self, number: str = "") -> int:
        requests = self._cluster.builds.requests
        return sum(number in ("", request.ref.number) for request in requests)

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        number = request.ref.number
        result = await self._run(request, directory)
        self.before(number)
        if number not in self.red:
            return result
        return BuildResult(result.end, 1, "error: no", result.started_at, result.ended_at, "log")


@pytest.fixture
async def builds(cluster: Cluster, workspaces: GitWorkspaces) -> Builds:
    await cluster.open(workspaces=workspaces)
    return Builds(cluster)


async def start(cluster: Cluster, name: str, plan: Pipeline = PLAN, **changes: object) -> Handle:
    """A requirement whose agent adds a file of its own."""
    number = f"{cluster.number}-{name}"
    script = Script(files={f"{number}.txt": f"{number}\n"})
    cluster.runs.by_number[number] = script
    return await cluster.start(plan, number=number, **changes)  # type: ignore[arg-type] # names its own


async def until_building(builds: Builds, handle: Handle, count: int = 1) -> None:
    async def is_building() -> bool:
        return builds.count(handle.id) >= count

    await eventually_async(is_building, f"build {count} of {handle.id}")


async def until_in_line(reader: SdlcReader, *handles: Handle) -> None:
    """Each behind the one before it; the first has the turn."""

    async def are_in_line() -> bool:
        turns = [(await reader.requirement(handle.id)).turn for handle in handles]
        places = [turn.place if turn else 1 for turn in turns]
        return places == list(range(1, len(handles) + 1))

    await eventually_async(are_in_line, f"{[handle.id for handle in handles]} in line")


async def a_line(cluster: Cluster, builds: Builds, reader: SdlcReader) -> Sequence[Handle]:
    """The first builds with the turn in hand, the second and the third wait behind it."""
    builds.hold(f"{cluster.number}-1")
    first = await start(cluster, "1")
    await until_building(builds, first)
    second = await start(cluster, "2")
    await until_in_line(reader, first, second)
    third = await start(cluster, "3")
    await until_in_line(reader, first, second, third)
    return first, second, third


async def test_each_verifies_once_what_those_before_have_delivered(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, git_project: GitProject
) -> None:
    line = await a_line(cluster, builds, sdlc_reader)
    view = await sdlc_reader.requirement(line[2].id)
    assert view.state is RequirementState.HELD
    assert view.reason.endswith(f"3rd in line, behind {line[1].id}; {line[0].id} is delivering.")

    async def is_shown() -> bool:
        metadata: WorkflowMetadata = await line[2].query("__temporal_workflow_metadata")
        place = f"to main: 3rd in line, behind [{line[1].id}]"
        return "is **HELD**" in metadata.current_details and place in metadata.current_details

    await eventually_async(is_shown, "the place in the Web UI")
    builds.release(line[0].id)
    await delivered(*line)

    assert [builds.count(handle.id) for handle in line] == [1, 1, 1]
    files = git_project.files("main")
    assert {f"{handle.id}.txt" for handle in line} <= set(files)


async def test_red_build_lets_others_deliver_at_once(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader
) -> None:
    first, second, third = await a_line(cluster, builds, sdlc_reader)
    builds.red.add(first.id)
    builds.release(first.id)
    await cluster.until_blocked(first)
    await delivered(second, third)

    builds.red.clear()
    await retry_when_possible(first, DELIVER)
    await delivered(first)


async def test_repaired_requirement_stands_in_line_again(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader
) -> None:
    builds.red.add(f"{cluster.number}-1")

    def repair(number: str) -> None:
        if builds.count(number) > 1:
            builds.red.discard(number)

    builds.before = repair
    first = await start(cluster, "1", bounds=REPAIR)
    second = await start(cluster, "2")

    await delivered(first, second)

    assert "workflow.blocked" in await cluster.types(first.id)


async def test_refused_delivery_lets_others_go_on(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, git_project: GitProject
) -> None:
    """A conflict with what was delivered before, found as soon as it is its turn."""
    first, second, third = await a_line(cluster, builds, sdlc_reader)
    git_project.commit({f"{second.id}.txt": "theirs\n"}, "Meanwhile")
    builds.release(first.id)

    await cluster.until_blocked(second)
    await delivered(first, third)
    assert builds.count(second.id) == 0
    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await second.execute_update(RequirementWorkflow.decide, abort)
    assert (await ended(second)).state is RequirementState.FAILED


@pytest.mark.parametrize("nth", [0, 1])
async def test_cancelled_requirement_leaves_the_line(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, nth: int
) -> None:
    line = list(await a_line(cluster, builds, sdlc_reader))
    cancelled = line.pop(nth)
    await cancelled.cancel()
    builds.release(f"{cluster.number}-1")
    with pytest.raises(WorkflowFailureError):
        await cancelled.result()

    await delivered(*line)


async def test_turn_of_a_terminated_workflow_goes_with_its_row(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, database_url: str
) -> None:
    first, *others = await a_line(cluster, builds, sdlc_reader)
    await first.terminate(reason="enough")
    builds.release(first.id)
    database = open_database(database_url)
    care = RecordCare(cluster.identity, cluster.store, database, start_requirement, timedelta())
    await care.act(Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", first.id))
    await database.close()
    await TemporalNotifier(cluster._client).notify(await cluster.store.to_notify())

    await delivered(*others)


async def test_p0_goes_before_whoever_has_the_turn(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader
) -> None:
    line = await a_line(cluster, builds, sdlc_reader)
    urgent = await start(cluster, "URGENT", priority=Priority.P0)
    await delivered(urgent)
    assert builds.count(urgent.id) == 1

    builds.release(line[0].id)
    await delivered(*line)
    assert max(builds.count(handle.id) for handle in line) <= 2


async def test_lost_notifications_delay_and_stop_nobody(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(notifier: TemporalNotifier, notification: Notification) -> None:
        """The sender was killed behind its commit."""

    monkeypatch.setattr(TemporalNotifier, "notify", lose)
    monkeypatch.setattr(options, "_HOLD_CHECKS", (timedelta(seconds=1),) * 2)
    line = await a_line(cluster, builds, sdlc_reader)
    builds.release(line[0].id)

    await delivered(*line)


async def test_scheduled_check_notifies_who_is_next(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = TemporalNotifier.notify

    async def lose(notifier: TemporalNotifier, notification: Notification) -> None:
        """The sender was killed behind its commit."""

    monkeypatch.setattr(TemporalNotifier, "notify", lose)
    first, second, third = await a_line(cluster, builds, sdlc_reader)
    builds.release(first.id)
    await delivered(first)
    monkeypatch.setattr(TemporalNotifier, "notify", notify)
    await cluster.scheduled_check()

    await delivered(second, third)


async def test_only_moves_by_somebody_else_are_counted(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader, git_project: GitProject
) -> None:
    """Five of them ask a human; `retry` tries again."""
    moves = iter(range(5))

    def move(number: str) -> None:
        if (nth := next(moves, None)) is not None:
            git_project.commit({f"theirs-{nth}.txt": "theirs\n"}, f"Meanwhile {nth}")

    builds.before = move
    first = await start(cluster, "1")
    await eventually_async(lambda: cluster._is_blocked(first.id), "five moves")
    (failure,) = (await sdlc_reader.requirement(first.id)).failures
    assert failure.error == "main moved 5 times while this was being verified."
    second = await start(cluster, "2")
    await delivered(second)

    await retry_when_possible(first, DELIVER)
    await delivered(first)
    assert builds.count(first.id) == 6


async def test_sequential_requirements_take_turns_as_well(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader
) -> None:
    builds.hold(f"{cluster.number}-1")
    first = await start(cluster, "1", sequential=True)
    await until_building(builds, first)
    second = await start(cluster, "2", sequential=True)
    await until_in_line(sdlc_reader, first, second)
    builds.release(first.id)

    await delivered(first, second)
    assert builds.count() == 2


async def test_many_wait_for_days_without_a_long_history(
    cluster: Cluster, builds: Builds, sdlc_reader: SdlcReader
) -> None:
    """Whoever waits is not asked about at every delivery before its own."""
    builds.hold(f"{cluster.number}-0")
    handles = [await start(cluster, "0")]
    await until_building(builds, handles[0])
    handles += [await start(cluster, str(nth)) for nth in range(1, 4)]

    async def all_wait() -> bool:
        views = [await sdlc_reader.requirement(handle.id) for handle in handles[1:]]
        return all(view.turn for view in views)

    await eventually_async(all_wait, "a line of four")
    builds.release(handles[0].id)
    await delivered(*handles)

    assert builds.count() == len(handles)
    for handle in handles:
        history = await handle.fetch_history()
        asked = [
            event
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name == "take_turn"
        ]
        assert len(asked) <= 3
