"""What one host merges reaches another through a shared repository, whole or named."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from adapters.git import GitWorkspaces
from hosting import lost_hosts
from hosting.lost_hosts import share_at_intervals
from pipeline.errors import HostLost
from pipeline.lost_hosts import Merged, Moving, OpenRun, Part
from pipeline.model import Head, MergeResult
from pipeline.ports import HostPorts
from tests.eventually import eventually
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, store_of, write

LOST, NEW = "host one", "host-2"
BACKEND, FRONTEND = "Backend Implementation", "Frontend Implementation"


@dataclass
class Pair:
    """Two hosts with a clone each of one project, and what they share."""

    lost: GitWorkspaces
    new: GitWorkspaces
    project: GitProject
    """Of the new host."""
    shared: GitProject
    store: GitProject
    """Of the new host."""
    head: Head

    async def work(self, files: dict[str, str], name: str = BACKEND) -> MergeResult:
        """One stage on the host that gets lost."""
        request = stage_request(self.head, name)
        write(Path(await self.lost.prepare(request)), files)
        return await self.lost.integrate(request, f"{name} done")

    def moving(self, *results: MergeResult, runs: tuple[OpenRun, ...] = ()) -> Moving:
        """What moves, where the database knows these merges."""
        merged = [Merged(each.head.commit, f"merge {nth}") for nth, each in enumerate(results, 1)]
        return Moving(NUMBER, LOST, [Part(NUMBER, self.head.commit, merged, runs)])


@pytest.fixture
async def pair(git_project: GitProject, tmp_path: Path) -> Pair:
    shared, clone = tmp_path / "shared.git", tmp_path / "clone"
    GitProject(tmp_path).git("init", "--quiet", "--bare", str(shared))
    GitProject(tmp_path).git("clone", "--quiet", str(git_project.root), str(clone))
    homes = tmp_path / "one", tmp_path / "two"
    lost = GitWorkspaces(git_project.root, homes[0], shared_repository=str(shared), host=LOST)
    new = GitWorkspaces(clone, homes[1], shared_repository=str(shared), host=NEW)
    head, _ = await lost.open(NUMBER)
    project = GitProject(clone)
    store = store_of(project, homes[1])
    return Pair(lost, new, project, GitProject(shared), store, head)


async def test_another_host_continues_and_delivers_what_was_merged(pair: Pair) -> None:
    first = await pair.work({"backend.txt": "one\n"})
    kept = stage_request(pair.head, FRONTEND)
    write(Path(await pair.lost.prepare(kept)), {"half.txt": "half\n"})
    ref = await pair.lost.keep(kept)

    for _ in range(2):
        await pair.new.take_over(pair.moving(first))

    assert await pair.new.head(NUMBER) == first.head
    assert pair.store.text(ref, "half.txt") == "half"
    request = stage_request(first.head, FRONTEND, attempt=2)
    write(Path(await pair.new.prepare(request)), {"frontend.txt": "two\n"})
    second = await pair.new.integrate(request, "done")
    assert await pair.new.open(NUMBER) == (second.head, "main")
    assert await pair.new.swap_target(NUMBER, "main", second.head.commit)
    assert pair.project.text("main", "backend.txt") == "one"
    # A stage that was closed there gives the same answer here.
    again = await pair.new.integrate(stage_request(pair.head), "done")
    assert again == first


async def test_a_host_that_comes_back_overwrites_nothing(pair: Pair) -> None:
    first = await pair.work({"backend.txt": "one\n"})
    await pair.new.take_over(pair.moving(first))
    request = stage_request(first.head, FRONTEND, attempt=2)
    write(Path(await pair.new.prepare(request)), {"frontend.txt": "two\n"})
    second = await pair.new.integrate(request, "done")

    late = await pair.work({"late.txt": "late\n"}, FRONTEND)
    await pair.lost.release(NUMBER)

    assert late.head != second.head
    assert await pair.new.head(NUMBER) == second.head
    heads = pair.shared.git("for-each-ref", "--format=%(refname) %(objectname)")
    assert f"refs/agog-hosts/host-2/{NUMBER}/heads/main {second.head.commit}" in heads
    assert f"refs/agog-hosts/host%20%one/{NUMBER}/heads/main {late.head.commit}" in heads


async def test_merges_that_were_not_pushed_are_named_and_pushed_once_that_works(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await pair.work({"backend.txt": "one\n"})
    away = tmp_path / "away"
    pair.shared.root.rename(away)
    second = await pair.work({"frontend.txt": "two\n"}, FRONTEND)  # the work goes on
    assert "was not shared" in caplog.text
    away.rename(pair.shared.root)

    with pytest.raises(HostLost) as refusal:
        await pair.new.take_over(pair.moving(first, second))
    assert f"not pushed to the shared repository: {second.head.commit[:10]} (merge 2)" in str(
        refusal.value
    )
    assert first.head.commit[:10] not in str(refusal.value)

    await pair.lost.share()
    await pair.new.take_over(pair.moving(first, second))
    assert await pair.new.head(NUMBER) == second.head


async def test_a_store_that_git_cannot_read_for_a_while_ends_no_worker(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_hosts, "_SHARE_SECONDS", 0.05)
    first = await pair.work({"backend.txt": "one\n"})
    pushed = f"refs/agog-hosts/host%20%one/{NUMBER}/heads/main"
    pair.shared.git("update-ref", "-d", pushed)
    head = pair.lost._store.path / "HEAD"
    was, tries = head.read_text(), asyncio.Queue[None]()
    head.write_text("broken")

    async def share(numbers: Sequence[str]) -> None:
        tries.put_nowait(None)
        await pair.lost.share(numbers)

    async def open_on(host: str) -> Sequence[str]:
        return [NUMBER]

    store, workspaces = SimpleNamespace(open_on=open_on), SimpleNamespace(share=share)
    ports = SimpleNamespace(store=store, workspaces=workspaces, host=LOST)
    sharing = asyncio.create_task(share_at_intervals(cast(HostPorts, ports)))
    for _ in range(2):
        tried = asyncio.create_task(tries.get())
        await asyncio.wait({sharing, tried}, return_when=asyncio.FIRST_COMPLETED)
        assert not sharing.done()
    head.write_text(was)

    def is_pushed() -> bool:
        return first.head.commit in pair.shared.git("for-each-ref", "--format=%(objectname)")

    await eventually(is_pushed, "what it has is pushed after all")
    sharing.cancel()
    with suppress(asyncio.CancelledError):
        await sharing


@pytest.mark.parametrize("others", [0, 1])
async def test_a_merge_that_nobody_recorded_is_taken_back_and_kept(pair: Pair, others: int) -> None:
    """As a fast-forward, or as a merge commit beside another stage's."""
    recorded = [await pair.work({f"other{n}.txt": "x\n"}, FRONTEND) for n in range(others)]
    before = recorded[-1].head if recorded else pair.head
    merged = await pair.work({"backend.txt": "one\n"})
    assert (await pair.lost.head(NUMBER)).commit == merged.head.commit

    run = OpenRun(BACKEND, 1, pair.head.commit)
    for _ in range(2):
        await pair.new.take_over(pair.moving(*recorded, runs=(run,)))

    assert await pair.new.head(NUMBER) == before
    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert pair.store.text(kept, "backend.txt") == "one"


async def test_nothing_was_ever_pushed(pair: Pair) -> None:
    moving = Moving("REQ-2", LOST, [Part("REQ-2", pair.head.commit)])
    with pytest.raises(HostLost, match="nothing of REQ-2 was ever pushed"):
        await pair.new.take_over(moving)


async def test_without_a_shared_repository_a_human_is_told(pair: Pair, tmp_path: Path) -> None:
    alone = GitWorkspaces(pair.project.root, tmp_path / "three")
    with pytest.raises(HostLost, match="AGOG_SHARED_REPOSITORY"):
        await alone.take_over(pair.moving())


async def test_a_host_with_another_project_takes_nothing(pair: Pair, tmp_path: Path) -> None:
    first = await pair.work({"backend.txt": "one\n"})
    project = GitProject(tmp_path / "another").init()
    project.commit({"else.txt": "else\n"})
    other = GitWorkspaces(
        project.root, tmp_path / "three", shared_repository=str(pair.shared.root), host="third"
    )
    with pytest.raises(HostLost, match="PROJECT_ROOT of third is another project"):
        await other.take_over(pair.moving(first))


async def test_no_hook_of_ours_runs_and_no_other_ref_is_pushed(
    pair: Pair, git_project: GitProject, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    store = store_of(git_project, tmp_path / "one")
    for hooks in (git_project.root / ".git" / "hooks", store.root / "hooks"):
        hooks.mkdir(exist_ok=True)
        hook = hooks / "pre-push"
        hook.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        hook.chmod(0o755)

    await pair.work({"backend.txt": "one\n"})

    assert not mark.exists()
    refs = pair.shared.git("for-each-ref", "--format=%(refname)").splitlines()
    assert refs
    assert all(ref.startswith(f"refs/agog-hosts/host%20%one/{NUMBER}/") for ref in refs)


async def test_work_in_submodules_is_not_left_behind(pair: Pair, tmp_path: Path) -> None:
    merged = await pair.work({"backend.txt": "one\n"})
    listed = pair.shared.git("ls-tree", merged.head.commit)
    entry = f"160000 commit {merged.head.commit}\tvendor"
    made = tmp_path / "tree"
    made.write_text(f"{listed}\n{entry}\n")
    pair.shared.shell(f"git tag tree $(git mktree --missing <'{made}')")
    tree = pair.shared.git("rev-parse", "tree")
    commit = pair.shared.git("commit-tree", tree, "-p", merged.head.commit, "-m", "submodule")
    place = f"refs/agog-hosts/host%20%one/{NUMBER}/heads/main"
    pair.shared.git("update-ref", place, commit)

    with pytest.raises(HostLost, match="changed submodules, whose commits are not shared: vendor"):
        await pair.new.take_over(pair.moving(merged))
