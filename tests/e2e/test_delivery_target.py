"""The last step: the user's own branch moves to a verified commit, or not at all."""

import asyncio
from pathlib import Path

import pytest

from pipeline.model import FailureKind, RequirementState
from pipeline.plan_rules import DELIVER
from tests.e2e.conftest import STARTER, Cli
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


async def test_a_target_that_moved_is_merged_and_verified(
    orchestra: Orchestra, working: Handle
) -> None:
    theirs = orchestra.project.commit({"user.txt": "user\n"}, "Meanwhile")
    release(orchestra)

    commit = await delivered(orchestra, working)

    project = orchestra.project
    assert project.git("rev-parse", "main") == commit
    assert {"user.txt", *ROY, *JEN} <= set(project.files("main"))
    assert project.git("merge-base", theirs, commit) == theirs
    assert (project.root / "user.txt").exists()


async def test_what_it_brought_is_reported_and_leaves_out_what_others_did_meanwhile(
    orchestra: Orchestra, working: Handle, tmp_path: Path
) -> None:
    theirs = orchestra.project.commit({"user.txt": "user\n"}, "Meanwhile")
    release(orchestra)
    commit = await delivered(orchestra, working)
    cli, number = Cli(orchestra.environment, tmp_path), orchestra.number

    whole = await asyncio.to_thread(cli, "diff", number, "--json")
    one = await asyncio.to_thread(cli, "diff", number, "roy")
    status = await asyncio.to_thread(cli, "status", number)
    elsewhere = await asyncio.to_thread(cli, "diff", number, AGOG_HOST="another")
    unknown = await asyncio.to_thread(cli, "diff", number, "todd")

    document = whole.document
    assert (document["base"], document["head"]) == (theirs, commit)
    assert {file["path"]: file["added"] for file in document["files"]} == dict.fromkeys(
        ROY | JEN, 1
    )
    assert "+roy" in one.out
    assert "jen.txt" not in one.out
    assert f"main {theirs[:7]}..{commit[:7]}, 2 files, +2 −0 · " in status.out
    assert f"{STARTER} diff {number}" in status.out
    assert (elsewhere.code, unknown.code) == (3, 3)
    assert "where its work lies" in elsewhere.err
    assert "has no stage 'todd'" in unknown.err
    await asyncio.to_thread(check_report, cli, number, commit)


def check_report(cli: Cli, number: str, commit: str) -> None:
    """Its figures are those of `status`, its records what the agents were told and answered."""
    status = cli("status", number, "--json").document
    report = cli("report", number, "--json").document
    verified = cli("verify-parallel", number, "--json")
    trace = cli("report", number, "--trace")
    page = cli.directory / "report.html"
    written = cli("report", number, "--html", str(page))
    nowhere = cli("report", number, "--html", str(cli.directory / "no folder" / "report.html"))
    listed = cli("report", "--since", "1h", "--json").document
    elsewhere = cli("report", number, "--trace", AGOG_HOST="another").out

    measured = report["performance"]
    assert measured.items() <= status["brought"].items()
    parts = {part["part"]: part for part in report["time"]}
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(report["wall_seconds"])
    assert report["wall_seconds"] == pytest.approx(measured["wall_seconds"])
    work = (parts["agents"], parts["builds"])
    assert sum(part["seconds"] for part in work) == pytest.approx(measured["parallel_seconds"])
    assert sum(p["work_seconds"] for p in work) == pytest.approx(measured["sequential_seconds"])
    assert {agent["agent"] for agent in report["agents"]} == {"roy", "jen"}
    assert report["critical_path"][-2]["name"].startswith("build ")
    assert verified.code == 0
    assert [pair["relation"] for pair in verified.document["pairs"]] == ["overlapped"]
    assert "You are roy." in trace.out
    assert f"**build backend**: green on {commit}, clean" in trace.out
    assert written.code == 0
    assert "You are jen." in page.read_text()
    assert nowhere.code == 2
    assert "report.html' cannot be written: No such file or directory." in nowhere.err
    assert [each["req_number"] for each in listed["outcomes"]] == [number]
    assert listed["parallel_seconds"] == pytest.approx(measured["parallel_seconds"])
    assert "ran on host" in elsewhere
    assert "You are roy." not in elsewhere


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
