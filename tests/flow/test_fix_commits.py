"""Repairs of a real project: what fixes did is merged, reviewed and delivered."""

import asyncio
from datetime import timedelta
from typing import Any

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    RequirementState,
    RetryRequest,
)
from tests.cluster import REPAIR, Cluster, delivered, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject
from tests.repairs import (
    BILLY,
    FIX_BACKEND,
    FIX_FRONTEND,
    JEN,
    LIZ,
    ROY,
    counts,
    deliver,
)
from workflows.requirement import RequirementWorkflow


async def test_commit_of_a_fix_is_delivered_with_everything_else(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    scripts = {
        ROY: [Script(files={"backend.txt": "broken\n"})],
        JEN: [Script(files={"frontend.txt": "fine\n"})],
        FIX_BACKEND: [Script(files={"backend.txt": "repaired\n"})],
    }
    report = await deliver(cluster, scripts, {"backend": [2, 0]}, workspaces=workspaces)

    assert git_project.text("main", "backend.txt") == "repaired"
    assert git_project.text("main", "frontend.txt") == "fine"
    assert report.commit == git_project.git("rev-parse", "main")
    assert git_project.git("worktree", "list").count("\n") == 0


async def deliver_in_order(cluster: Cluster, store: GitProject, later: str, **opened: Any) -> None:
    """Let that stage's agent, which lasts, end when the work of the other one is merged."""
    await cluster.open(**opened)
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_running(later)

    async def is_merged() -> bool:
        return store.text(f"agog/{cluster.number}/main", "shared.txt") == "roy"

    await until(is_merged, "roy's work is merged")
    await cluster.runs.let_end()
    await delivered(handle)


async def test_merge_conflict_is_resolved_by_the_later_owner(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    scripts = {
        ROY: [Script(files={"shared.txt": "roy\n"})],
        JEN: [Script(lasts=True, files={"shared.txt": "jen\n"})],
        f"Fix merge {JEN}": [Script(files={"shared.txt": "roy and jen\n"})],
    }
    await deliver_in_order(cluster, store, JEN, scripts=scripts, workspaces=workspaces)

    assert git_project.text("main", "shared.txt") == "roy and jen"
    assert counts(cluster, ROY, JEN) == [1, 1]
    assert cluster.runs.order(f"Fix merge {JEN}").agent == "jen"


async def test_fixes_that_conflict_with_each_other_are_resolved_by_a_fix_of_the_later_one(
    cluster: Cluster,
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    sdlc_reader: SdlcReader,
) -> None:
    scripts = {
        FIX_BACKEND: [Script(files={"shared.txt": "roy\n"})],
        FIX_FRONTEND: [
            Script(lasts=True, files={"shared.txt": "jen\n"}),
            Script(files={"shared.txt": "both\n"}),
        ],
    }
    builds = {"backend": [2, 0], "frontend": [1, 0]}
    opened = {"scripts": scripts, "builds": builds, "workspaces": workspaces}
    await deliver_in_order(cluster, store, FIX_FRONTEND, **opened)

    assert git_project.text("main", "shared.txt") == "both"
    nested = await sdlc_reader.requirement(f"{cluster.number}-FIX-2-FIX-1")
    assert nested.parent == f"{cluster.number}-FIX-2"


async def test_target_that_moved_and_conflicts_is_merged_by_an_owner(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    scripts = {
        ROY: [Script(files={"shared.txt": "ours\n"})],
        "Documentation Update": [Script(minutes=1000)],
    }
    await cluster.open(scripts, workspaces=workspaces)
    cluster.runs.on_start["Documentation Update"] = lambda _: git_project.commit(
        {"shared.txt": "theirs\n"}
    )

    cluster.runs.on_start["Fix deliver"] = lambda worktree: git_project.git(
        "merge", "--quiet", "-s", "ours", "main", at=worktree
    )
    handle = await cluster.start(bounds=REPAIR)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert git_project.text("main", "shared.txt") == "ours"
    assert cluster.runs.order("Fix deliver").agent == "roy"


async def test_orchestrator_ended_from_outside_leaves_no_merged_fix_unjudged(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject, store: GitProject
) -> None:
    """roy's fix is merged; jen's still runs when somebody terminates the orchestrator alone."""
    scripts = {
        BILLY: [Script(), Script()],
        LIZ: [Script(), Script()],
        "Statistics": [
            Script({"overall": "FAIL", "failures": ["slow"]}),
            Script(),
        ],
        "Fix verdict Statistics": [
            Script(minutes=1, files={"fixed.txt": "roy\n"}),
            Script(minutes=600_000),
        ],
    }
    await cluster.open(scripts, workspaces=workspaces)
    handle = await cluster.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))

    async def is_merged() -> bool:
        return bool(store.git("for-each-ref", f"refs/agog/{cluster.number}/merged/*FIX*"))

    await cluster.until_running("Fix verdict Statistics")
    await until(is_merged, "the first fix is merged")
    await cluster.handle(f"{cluster.number}/round-1").terminate()
    await cluster.until_blocked(handle)
    answer = RetryRequest("Statistics", "ada")
    await handle.execute_update(RequirementWorkflow.retry, answer)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert git_project.text("main", "fixed.txt") == "roy"
    assert counts(cluster, BILLY, LIZ) == [2, 2]
