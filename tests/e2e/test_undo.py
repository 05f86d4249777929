"""`undo`: what was delivered goes back through the same builds."""

import asyncio
from pathlib import Path

from pipeline.model import RequirementState
from tests.e2e.conftest import Cli
from tests.orchestra import Orchestra
from tests.orchestra_plans import PAIR

ROY = {"backend/roy.txt": "roy\n"}
JEN = {"frontend/jen.txt": "jen\n"}


async def test_a_delivered_requirement_is_taken_back_by_one_verified_commit(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    project, puppets, number = orchestra.project, orchestra.puppets, orchestra.number
    before = project.git("rev-parse", "main")
    cli = Cli(orchestra.environment, tmp_path)
    puppets.task("roy", files=ROY)
    puppets.task("jen", files=JEN)
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    early = await asyncio.to_thread(cli, "undo", number)
    report = await handle.result()
    later = project.commit({"user.txt": "user\n"}, "Later")

    shown = await asyncio.to_thread(cli, "undo", number, "--dry-run")
    assert project.git("rev-parse", "main") == later
    undone = await asyncio.to_thread(cli, "undo", number, "--wait")
    twice = await asyncio.to_thread(cli, "undo", number)

    assert report.state is RequirementState.DELIVERED
    assert early.code == 2
    assert "only what was delivered can be undone" in early.err
    assert shown.code == 0, shown.err
    assert "roy.txt" in shown.out
    assert f"{number}-undo would be one commit after {later[:10]}" in shown.err
    assert (undone.code, undone.out) == (0, f"{number}-undo DELIVERED\n"), undone.err
    assert project.git("log", "-1", "--format=%P", "main") == later
    assert project.git("diff", "--name-only", before, "main") == "user.txt"
    assert (puppets.starts("roy"), puppets.starts("jen")) == (1, 1)
    view = await orchestra.view(f"{number}-undo")
    commit = project.git("rev-parse", "main")
    green = {gate.gate for gate in view.gates if gate.commit == commit}
    assert green == {"build backend", "build frontend"}
    assert {stage.state for stage in view.stages} == {"completed"}
    assert twice.code == 2
    assert "it is undone" in twice.err


async def test_a_red_build_on_the_revert_asks_a_human_and_starts_no_agent(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    project, puppets, number = orchestra.project, orchestra.puppets, orchestra.number
    puppets.task("roy", files=ROY)
    await orchestra.worker.start()
    await (await orchestra.start(PAIR)).result()
    main = project.git("rev-parse", "main")
    puppets.task("backend", exit_code=1)

    asked = await asyncio.to_thread(Cli(orchestra.environment, tmp_path), "undo", number, "--wait")

    view = await orchestra.until_state(RequirementState.BLOCKED, f"{number}-undo")
    assert asked.code == 4
    assert [failure.gate for failure in view.failures] == ["build backend"]
    assert view.fixes == ()
    assert project.git("rev-parse", "main") == main
    assert puppets.starts("roy") == 1
