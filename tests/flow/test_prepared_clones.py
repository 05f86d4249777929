"""A clone is prepared before its agent starts; one that cannot be finds its owner."""

import asyncio
from dataclasses import replace
from pathlib import Path

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.agents_file import BuildCommand, CommandAgent
from pipeline.model import RequirementState
from pipeline.plan_file import read_pipeline
from tests.cluster import AGENTS, REPAIR, Cluster, retry_when_possible, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject

ROY, BILLY, FIX = "Backend Implementation", "Backend QA", "Fix prepare backend"
PLAN = read_pipeline(
    f"""
    name = "backend"
    [[groups]]
    name = "Work"
    [[stages]]
    name = "Research"
    agent = "cynthia"
    group = "Work"
    minutes = 1
    [[stages]]
    name = "{ROY}"
    agent = "roy"
    group = "Work"
    minutes = 1
    needs = ["Research"]
    builds = ["backend"]
    [[stages]]
    name = "{BILLY}"
    agent = "billy"
    group = "Work"
    minutes = 1
    needs = ["{ROY}"]
    """,
    "backend.toml",
)
PREPARED = replace(
    AGENTS,
    agents=dict.fromkeys(AGENTS.agents, CommandAgent(("true",))),
    builds={"backend": BuildCommand(".", ("true",), prepare=("npm", "ci"))},
)


def install(clone: Path) -> int:
    """`npm ci` that cannot install what is broken."""
    (clone / "node_modules").mkdir(exist_ok=True)
    (clone / "node_modules" / "tool").write_text("x")
    manifest = clone / "package.json"
    return int(manifest.exists() and "broken" in manifest.read_text())


async def deliver(cluster: Cluster) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await (await cluster.start(PLAN, bounds=REPAIR)).result()
    assert report.state is RequirementState.DELIVERED, report


async def test_a_broken_manifest_is_mended_by_who_wrote_it_and_the_tester_starts_once(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject, sdlc_reader: SdlcReader
) -> None:
    scripts = {
        ROY: [Script(files={"package.json": "broken"})],
        FIX: [Script(files={"package.json": "mended"})],
    }
    await cluster.open(scripts, workspaces=workspaces, agents=PREPARED)
    cluster.builds.on_prepare = install

    await deliver(cluster)

    assert cluster.runs.started() == ["Research", ROY, FIX, BILLY]
    assert [name for name, _ in cluster.builds.prepared] == [ROY, BILLY, FIX, BILLY]
    assert "npm error code E404" in cluster.runs.order(FIX).prompt
    assert "npm error" not in cluster.runs.order(BILLY).prompt
    assert git_project.files("main") == [".gitignore", "package.json", "readme.md", "shared.txt"]
    view = await sdlc_reader.requirement(cluster.number)
    tester = view.stages[2]
    assert (tester.attempt, tester.starts, tester.prepared) == (2, 1, ("backend",))
    assert tester.prepare_started_at
    assert tester.prepare_ended_at
    told = [(e["eventType"], e.get("passed")) for e in await cluster.events() if e.get("builds")]
    assert told == [
        ("stage.preparing", None),
        ("stage.prepared", True),
        ("stage.preparing", None),
        ("stage.prepared", False),
        ("stage.preparing", None),
        ("stage.prepared", True),
    ]
    (failed,) = (await cluster.blocked())["failures"]
    assert (failed["gate"], failed["owners"]) == ("prepare backend", ["roy"])


async def test_what_nobody_has_changed_is_tried_again_and_then_asks_a_human(
    cluster: Cluster, workspaces: GitWorkspaces, sdlc_reader: SdlcReader
) -> None:
    is_back = asyncio.Event()
    await cluster.open(workspaces=workspaces, agents=PREPARED)
    cluster.builds.on_prepare = lambda clone: int(
        not is_back.is_set() and "backend-implementation" in clone.name
    )
    handle = await cluster.start(PLAN, bounds=REPAIR)
    await cluster.until_blocked(handle)

    assert cluster.runs.started() == ["Research"]
    view = await sdlc_reader.requirement(cluster.number)
    assert [(f.kind, f.gate, f.owners) for f in view.failures] == [
        ("infrastructure", "prepare backend", ())
    ]
    assert view.stages[1].attempt == 3
    is_back.set()
    await retry_when_possible(handle, ROY)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert cluster.runs.started() == ["Research", ROY, BILLY]


async def test_a_p0_ends_a_preparation_which_begins_again_once_it_is_over(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    await cluster.open(workspaces=workspaces, agents=PREPARED)
    cluster.builds.may_prepare.clear()
    handle = await cluster.start(PLAN, bounds=REPAIR)

    async def is_preparing() -> bool:
        return bool(cluster.builds.prepared)

    async def is_cut_off() -> bool:
        return cluster.builds.cut_off == 1

    await until(is_preparing, "it is being prepared")
    description = await handle.describe()
    key = f"{cluster.number}/{description.run_id}"
    await cluster.runs.suspend(key)
    await until(is_cut_off, "its preparation has ended")
    assert cluster.runs.started() == ["Research"]
    cluster.builds.may_prepare.set()
    await cluster.runs.resume(key)

    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report
    assert [name for name, _ in cluster.builds.prepared] == [ROY, ROY, BILLY]


async def test_a_clone_in_which_an_agent_may_be_at_work_is_not_prepared_again(
    cluster: Cluster, workspaces: GitWorkspaces, sdlc_reader: SdlcReader
) -> None:
    """Whatever it has written would be taken for what `prepare` wrote."""
    scripts = {ROY: [Script(lasts=True)]}
    await cluster.open(scripts, workspaces=workspaces, agents=PREPARED)
    handle = await cluster.start(PLAN, bounds=REPAIR)

    async def is_recorded() -> bool:
        return (await sdlc_reader.requirement(cluster.number)).stages[1].starts == 1

    await until(is_recorded, "the start of its agent is recorded")
    await cluster.close()
    cluster.runs.orders = [order for order in cluster.runs.orders if order.stage != ROY]
    await cluster.open_again()
    await cluster.until_running(ROY)
    await cluster.runs.let_end()

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await handle.result()).state is RequirementState.DELIVERED
    assert [name for name, _ in cluster.builds.prepared] == [ROY, BILLY]
