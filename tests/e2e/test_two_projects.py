"""One installation, two repositories: a requirement reaches the one that it was started for."""

import asyncio
from pathlib import Path

from cli.running import ExitCode
from demo.project import make_project
from pipeline.model import OPENING, RequirementState
from tests.e2e.conftest import Cli
from tests.eventually import eventually
from tests.fixtures_workspaces import GitProject
from tests.orchestra import Orchestra

PLAN = """
name = "solo"
[[groups]]
name = "Implementation"
[[stages]]
name = "Backend Implementation"
agent = "roy"
group = "Implementation"
minutes = 10
builds = ["backend"]
"""


async def test_a_requirement_is_delivered_into_no_other_repository_than_its_own(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = GitProject(make_project(tmp_path / "other"))
    before = other.state()
    (plan := tmp_path / "solo.toml").write_text(PLAN)
    orchestra.puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    cli, number = Cli(orchestra.environment, tmp_path), orchestra.number
    start = ("start", number, "--title", "Greet", "--pipeline", str(plan))
    there = {"PROJECT_ROOT": str(other.root)}

    await orchestra.worker.start(**there)
    refused = await asyncio.to_thread(cli, *start)
    orchestra.worker.stop()
    started = await asyncio.to_thread(cli, *start)
    await orchestra.worker.start(**there)
    view = await orchestra.until_state(RequirementState.BLOCKED)
    status = await asyncio.to_thread(lambda: cli("status", number, **there))
    listed = await asyncio.to_thread(lambda: cli("list", **there))
    orchestra.worker.stop()
    await orchestra.worker.start()
    handle = orchestra.handle(number)
    await orchestra.retry(handle, OPENING)
    report = await handle.result()

    mine = str(orchestra.project.root)
    assert refused.code == ExitCode.REFUSED, refused.err
    assert f"works on {other.root}, and PROJECT_ROOT is {mine}" in refused.err
    assert started.code == 0, started.err
    assert f"It was started for {mine}" in view.failures[0].error
    assert f"It was started for {mine}; PROJECT_ROOT is {other.root}." in status.out
    assert orchestra.project.root.name in listed.out
    assert report.state is RequirementState.DELIVERED
    assert "backend/roy.txt" in orchestra.project.files("main")
    assert other.state() == before
    assert orchestra.project.root.name not in (await asyncio.to_thread(cli, "list")).out


async def test_work_that_was_begun_goes_on_in_no_other_repository(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = GitProject(make_project(tmp_path / "other"))
    before = other.state()
    (plan := tmp_path / "solo.toml").write_text(PLAN)
    orchestra.puppets.hold("roy")
    orchestra.puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    cli, number = Cli(orchestra.environment, tmp_path), orchestra.number
    await orchestra.worker.start()
    await asyncio.to_thread(cli, "start", number, "--title", "Greet", "--pipeline", str(plan))
    await eventually(lambda: bool(orchestra.puppets.living()), "roy")
    orchestra.worker.kill()

    orchestra.puppets.release("roy")
    await orchestra.worker.start(PROJECT_ROOT=str(other.root))
    view = await orchestra.until_state(RequirementState.BLOCKED)
    orchestra.worker.stop()
    await orchestra.worker.start()
    handle = orchestra.handle(number)
    await orchestra.retry(handle, "Backend Implementation")
    report = await handle.result()

    assert f"was not begun on {other.root}" in view.failures[0].error
    assert report.state is RequirementState.DELIVERED
    assert "backend/roy.txt" in orchestra.project.files("main")
    assert other.state() == before
