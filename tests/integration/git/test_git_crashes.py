"""A worker that is killed at any moment, and what it finds when it starts again."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import GitFailed
from pipeline.model import StageRequest
from tests.eventually import eventually
from tests.fixtures_runs import is_running
from tests.fixtures_workspaces import HOUSE, NUMBER, GitProject, stage_request, write
from tests.integration.git.test_prepared_clones import DAEMON, Site, pids

STAGES = 4
WORKER = """
import asyncio, sys
from pathlib import Path
from adapters.git import GitWorkspaces
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

PREPARING = """
import asyncio, sys
sys.path.insert(0, {house!r})
from tests.integration.git.test_prepared_clones import Site
from pathlib import Path
site = Site(Path({home!r}), Path({project!r}))
asyncio.run(site.work({script!r}))
"""


async def test_worker_killed_at_any_moment_merges_every_stage_once(
    git_project: GitProject, state_home: Path, store: GitProject
) -> None:
    base = git_project.git("rev-parse", "main")
    command = (sys.executable, "-c", WORKER, str(git_project.root), str(state_home), base)

    for seconds in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, None):
        worker = await asyncio.create_subprocess_exec(*command, str(STAGES), cwd=HOUSE)
        try:
            await asyncio.wait_for(worker.wait(), seconds)
        except TimeoutError:
            with suppress(ProcessLookupError):  # it has just ended by itself
                worker.kill()
            await worker.wait()

    assert worker.returncode == 0
    integration = f"agog/{NUMBER}/main"
    subjects = store.git("log", "--format=%s", f"{base}..{integration}").splitlines()
    works = sorted(subject for subject in subjects if not subject.startswith("Merge"))
    assert works == [f"{NUMBER} Part {part}: done" for part in range(STAGES)]
    assert len(subjects) == STAGES + STAGES - 1
    assert len(store.files(integration)) == 3 + STAGES * 50
    assert store.git("fsck", "--no-dangling") == ""
    assert git_project.git("status", "--porcelain") == ""


async def test_lock_of_another_git_is_waited_for(
    workspaces: GitWorkspaces, store: GitProject
) -> None:
    request, lock = await _about_to_merge(workspaces, store)
    merging = asyncio.create_task(workspaces.integrate(request, "done"))
    done, _ = await asyncio.wait({merging}, timeout=0.5)
    lock.unlink()

    assert not done
    assert (await merging).head.position == 1


async def test_lock_that_is_not_freed_is_told_until_it_is_old(
    workspaces: GitWorkspaces, store: GitProject
) -> None:
    request, lock = await _about_to_merge(workspaces, store)

    with pytest.raises(GitFailed, match=r"main\.lock"):
        await workspaces.integrate(request, "done")

    # A power cut has left it: nobody of ours holds one for a minute.
    os.utime(lock, (time.time() - 61,) * 2)
    assert (await workspaces.integrate(request, "done")).head.position == 1


async def _about_to_merge(
    workspaces: GitWorkspaces, store: GitProject
) -> tuple[StageRequest, Path]:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"a": "a"})
    lock = store.root / "refs/heads/agog" / NUMBER / "main.lock"
    lock.touch()
    return request, lock


@pytest.mark.ordinary_user
async def test_a_prepare_of_a_killed_worker_ends_and_runs_again_from_the_beginning(
    git_project: GitProject, state_home: Path, tmp_path: Path
) -> None:
    git_project.commit({"backend/package.json": "{}"})
    site = Site(state_home, git_project.root)
    script = f"touch half; {DAEMON.format(tmp_path)}"
    program = PREPARING.format(
        house=str(HOUSE), home=str(site.home), project=str(site.project), script=script
    )
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=HOUSE)  # noqa: ASYNC220 -- at once
    try:
        await eventually(lambda: len(pids(tmp_path)) == 2, "a prepare that lasts")
    finally:
        worker.kill()
        worker.wait()
    old = pids(tmp_path)

    # A zombie is dead: only its parent has not heard of it yet.
    states = " ".join(f"/proc/{pid}/status" for pid in old)
    again = await site.work(f"test ! -e half; ! cat {states} 2>&- | grep '^State:.[^ZX]'")

    assert again
    assert again.is_green, again
    assert not any(map(is_running, old))
