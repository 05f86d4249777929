"""A worker that is killed at any moment, and what it finds when it starts again."""

import asyncio
import sys
from pathlib import Path

import pytest

from adapters.workspaces import GitWorkspaces
from pipeline.errors import GitFailed
from pipeline.model import StageRequest
from tests.fixtures_workspaces import HOUSE, NUMBER, GitProject, stage_request, write

STAGES = 4
WORKER = """
import asyncio, sys
from pathlib import Path
from adapters.workspaces import GitWorkspaces
from pipeline.model import Head
from tests.fixtures_workspaces import NUMBER, stage_request, write

async def stage(workspaces, head, part):
    request = stage_request(head, f"Part {part}")
    write(Path(await workspaces.prepare(request)), {f"part{part}/{n}": part for n in range(50)})
    merge = await workspaces.integrate(request, "done")
    await workspaces.checkout_build(NUMBER, "backend", merge.head.commit, clean=False)

async def main(root, home, base, stages):
    workspaces = GitWorkspaces(Path(root), Path(home))
    await workspaces.open(NUMBER)
    await asyncio.gather(*(stage(workspaces, Head(base, 0), str(n)) for n in range(int(stages))))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_worker_killed_at_any_moment_merges_every_stage_once(
    git_project: GitProject, state_home: Path
) -> None:
    base = git_project.git("rev-parse", "main")
    command = (sys.executable, "-c", WORKER, str(git_project.root), str(state_home), base)

    for seconds in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, None):
        worker = await asyncio.create_subprocess_exec(*command, str(STAGES), cwd=HOUSE)
        try:
            await asyncio.wait_for(worker.wait(), seconds)
        except TimeoutError:
            worker.kill()
            await worker.wait()

    assert worker.returncode == 0
    integration = f"agog/{NUMBER}/main"
    subjects = git_project.git("log", "--format=%s", f"main..{integration}").splitlines()
    works = sorted(subject for subject in subjects if not subject.startswith("Merge"))
    assert works == [f"Part {part}: done" for part in range(STAGES)]
    assert len(subjects) == STAGES + STAGES - 1
    assert len(git_project.files(f"{integration}")) == 3 + STAGES * 50
    assert git_project.git("fsck", "--no-dangling") == ""
    assert git_project.git("status", "--porcelain") == ""


async def test_lock_of_another_git_is_waited_for(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    request, lock = await _about_to_merge(workspaces, git_project)
    merging = asyncio.create_task(workspaces.integrate(request, "done"))
    done, _ = await asyncio.wait({merging}, timeout=0.5)
    lock.unlink()

    assert not done
    assert (await merging).head.position == 1


async def test_lock_that_is_never_freed_is_told(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    request, _ = await _about_to_merge(workspaces, git_project)

    with pytest.raises(GitFailed, match=r"main\.lock"):
        await workspaces.integrate(request, "done")


async def _about_to_merge(
    workspaces: GitWorkspaces, project: GitProject
) -> tuple[StageRequest, Path]:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"a": "a"})
    lock = project.root / ".git/refs/heads/agog" / NUMBER / "main.lock"
    lock.touch()
    return request, lock
