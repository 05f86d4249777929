"""What a requirement brought, by every command that reports it: on a target that has moved."""

import asyncio
from pathlib import Path

import pytest

from pipeline.model import RequirementState
from tests.e2e.conftest import STARTER, Cli
from tests.eventually import eventually
from tests.orchestra import Orchestra
from tests.orchestra_plans import PAIR

ROY = {"backend/roy.txt": "roy\n"}
JEN = {"frontend/jen.txt": "jen\n"}


async def test_what_it_brought_is_reported_and_leaves_out_what_others_did_meanwhile(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    project, puppets, number = orchestra.project, orchestra.puppets, orchestra.number
    puppets.hold("roy", "jen")
    puppets.task("roy", files=ROY)
    puppets.task("jen", files=JEN)
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(puppets.living()) == 2, "roy beside jen")
    theirs = project.commit({"user.txt": "user\n"}, "Meanwhile")
    puppets.release("roy", "jen")
    delivered = await handle.result()
    assert (delivered.state, delivered.commit) == (
        RequirementState.DELIVERED,
        project.git("rev-parse", "main"),
    )
    assert project.git("merge-base", theirs, "main") == theirs
    assert {"user.txt", *ROY, *JEN} <= set(project.files("main"))
    assert (project.root / "user.txt").exists()
    commit, cli = delivered.commit, Cli(orchestra.environment, tmp_path)

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
