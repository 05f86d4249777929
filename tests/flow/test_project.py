import asyncio
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import ActivityEnvironment

from activities.delivery import DeliveryActivities
from adapters.git import GitWorkspaces
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import DependencyUnavailable
from pipeline.failures import ERROR_LIMIT
from pipeline.model import DeliveryOutcome, DeliveryReport, DeliveryRequest, DeliveryState, Head
from pipeline.ports import HostPorts
from tests.cluster import WITH_PROJECT, Cluster, Handle, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import (
    AlwaysReady,
    NobodyWaits,
    PlainPrompts,
    RealClock,
    Script,
    ScriptedBuilds,
    ScriptedCare,
    ScriptedRuns,
)
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, write
from tests.orchestra_plans import team_of
from tests.sdlc_factory import an_order, begin


@pytest.fixture
async def delivery(
    sdlc_store: PostgresSdlcStore, nats_publisher: NatsEventPublisher, workspaces: GitWorkspaces
) -> DeliveryActivities:
    clock = RealClock()
    await sdlc_store.accept(an_order(NUMBER), "Its delivery passes the P0 gate.")
    return DeliveryActivities(
        HostPorts(
            store=sdlc_store,
            publisher=nats_publisher,
            notifier=NobodyWaits(),
            sasha=NobodyWaits(),
            cluster_care=ScriptedCare(),
            host_care=ScriptedCare(),
            runs=ScriptedRuns(clock),
            prompts=PlainPrompts(),
            builds=ScriptedBuilds(clock),
            workspaces=workspaces,
            readiness=AlwaysReady(),
            agents=lambda: WITH_PROJECT,
            host="here",
            host_requirements=1,
            parallel=True,
        )
    )


def request(head: Head) -> DeliveryRequest:
    return DeliveryRequest(stage_request(head).ref, head, "main", 1)


async def merged(workspaces: GitWorkspaces, files: dict[str, str]) -> Head:
    head, _ = await workspaces.open(NUMBER)
    stage = stage_request(head)
    write(Path(await workspaces.prepare(stage)), files)
    return (await workspaces.integrate(stage, "done")).head


async def test_delivery_reaches_the_target_with_everything_merged(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    await cluster.open(workspaces=workspaces)
    handle = await cluster.start()
    report = await handle.result()

    assert report.state == "DELIVERED"
    assert report.commit == git_project.git("rev-parse", "main")


async def test_blocked_requirement_begins_on_what_its_blocker_has_delivered(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject, sdlc_reader: SdlcReader
) -> None:
    await cluster.open(workspaces=workspaces)
    plan = team_of("Research", "Backend")
    first = await cluster.start(plan)
    second = await cluster.start(plan, number=f"{cluster.number}-2", blocked_by=(first.id,))
    delivered: DeliveryReport = await first.result()
    await second.result()

    assert (await sdlc_reader.requirement(second.id)).base_commit == delivered.commit


async def test_target_that_has_moved_counts_as_delivered_whatever_remains(
    delivery: DeliveryActivities, workspaces: GitWorkspaces, git_project: GitProject, tmp_path: Path
) -> None:
    head = await merged(workspaces, {"new.txt": "new\n"})
    left = Path(await workspaces.prepare(stage_request(head, "Left Behind")))
    (left / "work").write_text("x")
    write(tmp_path / "state home/indexes" / NUMBER / left.name, {"index": "damaged"})

    outcome = await ActivityEnvironment().run(delivery.deliver, request(head))

    assert git_project.git("rev-parse", "main") == head.commit
    assert outcome.state is DeliveryState.DELIVERED


async def test_worker_that_stops_during_a_delivery_finishes_it(
    delivery: DeliveryActivities, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    head = await merged(workspaces, {f"{n}.txt": "new\n" for n in range(2_000)})
    trying = ActivityEnvironment().run(delivery.deliver, request(head))
    task: asyncio.Task[DeliveryOutcome] = asyncio.create_task(trying)

    async def is_moving() -> bool:
        return len(list(git_project.root.glob("*.txt"))) > 10

    await until(is_moving, "the checkout moves")
    task.cancel()
    outcome = await task

    assert outcome.state is DeliveryState.DELIVERED
    assert git_project.git("status", "--porcelain") == ""


async def test_outage_lets_others_deliver(
    delivery: DeliveryActivities, workspaces: GitWorkspaces, sdlc_store: PostgresSdlcStore
) -> None:
    """The one that has the turn has to wait for NATS: it must not make others wait for it."""
    head = await merged(workspaces, {"new.txt": "new\n"})
    outcome = await ActivityEnvironment().run(delivery.take_turn, request(head))
    assert outcome.state is DeliveryState.READY
    other = await begin(sdlc_store, "REQ-OTHER")
    asked = DeliveryRequest(other.ref, head, "main", 1)
    assert await sdlc_store.pass_delivery(asked, other.number, "here", is_verified=False)

    away = DeliveryActivities(replace(delivery._ports, readiness=NatsIsAway()))
    with pytest.raises(DependencyUnavailable):
        await ActivityEnvironment().run(away.deliver, request(head))

    assert (await sdlc_store.to_notify()).turns == (other.number,)


class NatsIsAway:
    """What the worker's own look has found."""

    def check(self) -> None:
        raise DependencyUnavailable("NATS", "its address", "Start it.")


async def test_conflict_in_many_files_stays_small(
    delivery: DeliveryActivities, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    names = [f"{'a-long-name' * 8}-{n}.txt" for n in range(500)]
    head = await merged(workspaces, dict.fromkeys(names, "ours\n"))
    git_project.commit(dict.fromkeys(names, "theirs\n"))

    outcome = await ActivityEnvironment().run(delivery.deliver, request(head))

    assert outcome.failure
    assert len(outcome.failure.error) <= ERROR_LIMIT
    assert names[0] in outcome.failure.error


async def test_work_waits_for_a_worker_that_has_the_project(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    """A worker restarted without PROJECT_ROOT must not throw away what an agent does."""
    slow = {"Research": [Script(minutes=40_000)]}
    await cluster.open(slow, workspaces=workspaces)
    handle = await cluster.start(heartbeat=timedelta(seconds=5))
    await until(lambda: is_running(cluster), "Research runs")
    await cluster.close()
    await cluster.open()  # no project
    await until(lambda: is_waiting(handle), "the stage waits for a project")
    await cluster.close()
    await cluster.open(workspaces=workspaces)
    report = await handle.result()

    assert report.state == "DELIVERED"
    assert "stage.failed" not in await cluster.types()


async def is_running(cluster: Cluster) -> bool:
    return bool(cluster.runs.started())


async def is_waiting(handle: Handle) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return any("PROJECT_ROOT is not set" in one.last_failure.message for one in pending)


async def test_requirement_whose_project_is_gone_can_be_cancelled(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    """What its agent has done lies in a repository of ours."""
    await cluster.open({"Research": [Script(minutes=40_000)]}, workspaces=workspaces)
    handle = await cluster.start(heartbeat=timedelta(seconds=5))

    await until(lambda: is_running(cluster), "Research runs")
    shutil.rmtree(git_project.root)
    await handle.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    ended = next(e for e in await cluster.events() if e["eventType"] == "workflow.cancelled")
    assert ended["reason"] == "Cancelled."
    assert store.git("rev-parse", f"refs/agog/{cluster.number}/kept/research-1")
