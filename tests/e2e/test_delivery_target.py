"""The last step: the user's own branch moves to a verified commit, or not at all."""

import pytest

from pipeline.model import FailureKind, RequirementState
from pipeline.plan_rules import DELIVER
from tests.eventually import eventually
from tests.fixtures_workspaces import write
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import PAIR, SOLO

ROY = {"backend/roy.txt": "roy\n"}
JEN = {"frontend/jen.txt": "jen\n"}


@pytest.fixture
async def working(orchestra: Orchestra) -> Handle:
    """A requirement whose roy and jen have done their work and wait for leave to say so."""
    orchestra.puppets.hold("roy", "jen")
    orchestra.puppets.task("roy", files=ROY)
    orchestra.puppets.task("jen", files=JEN)
    await orchestra.worker.start()
    before = orchestra.project.state()
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(orchestra.puppets.living()) == 2, "roy beside jen")
    assert orchestra.project.state() == before
    return handle


def release(orchestra: Orchestra) -> None:
    orchestra.puppets.release("roy", "jen")


async def delivered(orchestra: Orchestra, handle: Handle) -> str:
    """Wait for the delivery; the commit, for which every build was verified."""
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report
    gates = (await orchestra.view()).gates
    verified = {g.gate for g in gates if g.commit == report.commit and g.verdict == "green"}
    assert {"build backend", "build frontend"} <= verified
    built = {
        sign.name for sign in orchestra.puppets.signs("start") if sign.attempt == report.commit
    }
    assert built == {"backend", "frontend"}
    assert orchestra.clones() == []
    return report.commit


async def test_a_clean_checkout_is_forwarded(orchestra: Orchestra, working: Handle) -> None:
    write(orchestra.project.root, {"notes.txt": "untracked, nobody's business\n"})
    release(orchestra)

    commit = await delivered(orchestra, working)

    project = orchestra.project
    assert project.git("rev-parse", "HEAD", "main").split() == [commit, commit]
    assert project.git("symbolic-ref", "--short", "HEAD") == "main"
    assert (project.root / "backend/roy.txt").read_text() == "roy\n"
    assert (project.root / "frontend/jen.txt").read_text() == "jen\n"
    assert project.git("status", "--porcelain") == "?? notes.txt"


async def test_a_target_that_conflicts_blocks(orchestra: Orchestra, working: Handle) -> None:
    theirs = orchestra.project.commit({"backend/roy.txt": "user\n"}, "Meanwhile")
    release(orchestra)

    view = await orchestra.until_state(RequirementState.BLOCKED)

    (failure,) = view.failures
    assert (failure.stage, failure.kind) == (DELIVER, FailureKind.CONFLICT)
    assert "backend/roy.txt" in failure.error
    project = orchestra.project
    assert project.git("rev-parse", "main") == theirs
    assert project.git("status", "--porcelain") == ""
    integration = f"agog/{orchestra.number}/main"
    assert {*ROY, *JEN} <= set(orchestra.store.files(integration))

    project.commit({"backend/roy.txt": "roy\n"}, "Give in")
    await orchestra.retry(working, DELIVER)
    await delivered(orchestra, working)


async def test_a_dirty_target_waits_for_its_user(orchestra: Orchestra, working: Handle) -> None:
    project = orchestra.project
    write(project.root, {"README.md": "half written\n"})
    before = project.git("rev-parse", "main")
    release(orchestra)

    view = await orchestra.until_state(RequirementState.BLOCKED)

    (failure,) = view.failures
    assert (failure.stage, failure.kind) == (DELIVER, FailureKind.DELIVERY)
    assert "README.md" in failure.error
    assert project.git("rev-parse", "main") == before
    assert (project.root / "README.md").read_text() == "half written\n"

    project.git("checkout", "--", "README.md")
    reopened = await orchestra.retry(working, DELIVER)
    assert reopened.stages == (DELIVER,)
    commit = await delivered(orchestra, working)
    assert project.git("rev-parse", "main") == commit


async def test_a_branch_that_is_not_checked_out_moves_alone(
    orchestra: Orchestra, working: Handle
) -> None:
    project = orchestra.project
    project.git("checkout", "--quiet", "-b", "elsewhere")
    write(project.root, {"README.md": "half written\n"})
    release(orchestra)

    commit = await delivered(orchestra, working)

    assert project.git("rev-parse", "main") == commit
    assert project.git("symbolic-ref", "--short", "HEAD") == "elsewhere"
    assert project.git("status", "--porcelain") == "M README.md"
    assert not (project.root / "backend/roy.txt").exists()


async def test_a_branch_that_was_named_at_the_start_gets_the_work(orchestra: Orchestra) -> None:
    """The user is on a dirty branch of her own, which is nobody's business."""
    project, puppets = orchestra.project, orchestra.puppets
    main = project.git("rev-parse", "main")
    project.git("switch", "--quiet", "--create", "next")
    base = project.commit({"next.txt": "next\n"}, "Only here")
    project.git("switch", "--quiet", "main")
    write(project.root, {"README.md": "half written\n"})
    puppets.task("roy", files=ROY)
    await orchestra.worker.start()

    handle = await orchestra.start(SOLO, target="next")
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED, report
    assert project.git("rev-parse", "main", "next").split() == [main, report.commit]
    assert project.git("merge-base", base, report.commit) == base
    assert project.text("next", "backend/roy.txt") == "roy"
    assert project.git("status", "--porcelain") == "M README.md"
    assert (await orchestra.view()).target_branch == "next"


async def test_a_red_build_on_the_merge_with_the_target_blocks(
    orchestra: Orchestra, working: Handle
) -> None:
    """Roy's own build is green; what is red is his work together with the user's."""
    puppets = orchestra.puppets
    puppets.hold("backend")
    release(orchestra)
    await eventually(lambda: len(puppets.living("backend")) == 1, "the build of roy's work")
    theirs = orchestra.project.commit({"user.txt": "user\n"}, "Meanwhile")
    puppets.task("backend", exit_code=1)
    puppets.release("backend")

    view = await orchestra.until_state(RequirementState.BLOCKED)

    assert [failure.gate for failure in view.failures] == ["build backend"]
    backend = [gate.verdict for gate in view.gates if gate.gate == "build backend"]
    assert backend == ["green", "red"]
    assert orchestra.project.git("rev-parse", "main") == theirs
