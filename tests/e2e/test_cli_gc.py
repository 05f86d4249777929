"""`gc`: what ended requirements have left goes, unless it is work that nobody has merged."""

import asyncio
from pathlib import Path

from pipeline.delivery_settings import delivery_branch
from tests.e2e.conftest import Cli
from tests.orchestra import Orchestra
from tests.orchestra_plans import SOLO


async def test_logs_go_by_age_and_branches_once_they_are_merged(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    agents = orchestra.puppets.directory / "agents.toml"
    agents.write_text(f'{agents.read_text()}\n[delivery]\nmode = "branch"\n')
    orchestra.puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    await orchestra.worker.start()
    await (await orchestra.start(SOLO)).result()
    project, cli = orchestra.project, Cli(orchestra.environment, tmp_path)
    branch = delivery_branch(orchestra.number, "Greet in the user's language")

    young = await asyncio.to_thread(cli, "gc")
    early = await asyncio.to_thread(cli, "gc", "--days", "0", "--keep-mib", "100", "--json")
    runs = orchestra.runs()
    assert runs
    project.git("merge", "--quiet", branch)
    shown = await asyncio.to_thread(cli, "gc", "--days", "0", "--dry-run")
    assert [run.path for run in orchestra.runs()] == [run.path for run in runs]
    assert project.git("branch", "--list", branch)
    done = await asyncio.to_thread(cli, "gc", "--days", "0")
    diff = await asyncio.to_thread(cli, "diff", orchestra.number, "--stat")
    undo = await asyncio.to_thread(cli, "undo", orchestra.number, "--dry-run")

    assert (young.code, young.out) == (0, "")
    assert early.document["folders"] == early.document["branches"] == []
    assert branch in early.document["unmerged"]
    assert f"Would remove the branch {branch}" in shown.out
    assert done.code == 0, done.err
    assert f"Removed the branch {branch}" in done.out
    assert orchestra.runs() == []
    assert project.git("branch", "--list", "agog/*") == ""
    assert orchestra.store.git("for-each-ref", "refs/agog", "refs/heads/agog") == ""
    assert diff.code == 3
    assert "(any more)" in diff.err
    assert "roy.txt" in undo.out
