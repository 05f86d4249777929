"""The project's repository as the pipeline sees it: open, prepare, integrate, build, deliver."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from adapters.builds.process import BuildProcesses
from adapters.git import Git
from adapters.locks import Locks, path_key
from adapters.workspaces import delivery
from adapters.workspaces.merging import Merge, merge_commits, move_refs
from adapters.workspaces.messages import merge_message, stage_message
from adapters.workspaces.names import Names, attempt_key
from adapters.workspaces.project import check_project, check_repository
from adapters.workspaces.snapshot import take_snapshot
from adapters.workspaces.worktrees import WORKTREES, Worktree, Worktrees
from pipeline.errors import GitFailed, ProjectRefused
from pipeline.model import Head, MergeResult, StageRequest
from pipeline.numbers import slug

STAGE_PREFIX = "stage-"
SWAP_TRIES = 10
"""Tries to move the integration branch; our own merges queue, so only a stranger can interfere."""


class GitWorkspaces:
    """Implements `pipeline.ports.Workspaces` by git alone.

    The project's checkout and branches stay as they are until `swap_target`. Merges need no
    checkout: they are computed on commits, and all refs of one step move in one transaction, so
    that a crash leaves either none of it or all of it.
    """

    def __init__(self, project_root: Path, home: Path) -> None:
        """Take the root of the project's work tree and the host's state directory."""
        home = home.absolute().resolve()
        self._git = Git(project_root.absolute())
        self._locks = Locks(home / "locks")
        self._worktrees = Worktrees(self._git, home / WORKTREES, self._locks)
        self._processes = BuildProcesses(home)

    async def open(self, number: str, base: str = "") -> tuple[Head, str]:
        """Create the integration branch; returns its tip and the target branch.

        A fix starts at its requirement's commit `base` and has no target.
        """
        names = Names(number)
        await check_repository(self._git)
        async with self._merging(number):
            if not self._is_ours(number):
                await self._check_unused(names)
            if await self._git.commit_of(names.integration) is None:
                await self._create(names, base)
            target = await self._git.run("cat-file", "blob", names.target)
            return await self._head(names), target.text

    async def head(self, number: str) -> Head:
        """The tip of the integration branch at this moment."""
        return await self._head(Names(number))

    async def prepare(self, request: StageRequest) -> str:
        """A worktree for the attempt at `request.head`; untouched when asked again for that.

        One at another commit is made anew: no agent has been in it yet.
        """
        names, key = Names(request.ref.number), attempt_key(request)
        path, base = self._stage_path(request), _base(request)
        short = names.stage(key).removeprefix("refs/heads/")
        async with self._locks.hold(path_key(path)):
            found = await self._usable(path)
            if found is None and await self._git.commit_of(names.stage(key)):
                found = await self._worktrees.add(path, short)
            is_merged = bool(await self._git.commit_of(names.merged(key)))
            if not is_merged and (found is None or await found.git.commit_of("HEAD") != base):
                await self._worktrees.add(path, "-B", short, base)
        return str(path)

    async def integrate(self, request: StageRequest, summary: str) -> MergeResult:
        """Commit the worktree's changes and merge them into the integration branch."""
        path = self._stage_path(request)
        async with self._locks.hold(path_key(path)):
            result = await self._merged(Names(request.ref.number), attempt_key(request))
            if result is None:
                result = await self._integrate(request, summary)
            if not result.conflicts:
                await self._worktrees.discard(path)
        return result

    async def keep(self, request: StageRequest) -> str:
        """Commit what an unsuccessful attempt left to a kept ref, remove its worktree; the ref."""
        names, key = Names(request.ref.number), attempt_key(request)
        message = stage_message(request, "kept after an unsuccessful attempt")
        async with self._locks.hold(path_key(self._stage_path(request))):
            return await self._keep(names, key, _base(request), message)

    async def checkout_build(self, number: str, build: str, commit: str) -> str:
        """The build's worktree, reset to the commit; ignored files are kept."""
        path = self._worktrees.place(number, f"build-{slug(build)}")
        async with self._locks.hold(path_key(path)):
            await self._processes.end(path)
            known = await self._worktrees.find(path)
            if not (known and await self._reset(known, commit)):
                await self._worktrees.add(path, "--detach", commit)
        return str(path)

    async def merge_fix(self, number: str, fix: str) -> MergeResult:
        """Merge what a fix has done into the integration branch of its requirement."""
        names = Names(number)
        theirs = await self._commit(Names(fix).integration)
        tip = await self._git.commit_of(names.merged(fix))
        if tip:
            return MergeResult(await self._head(names, tip), theirs)
        message = f"Merge {fix} into {number}\n"
        merge = await self._advance(names, theirs, message, {}, names.merged(fix))
        return MergeResult(await self._head(names, merge.tip), theirs, merge.conflicts)

    async def merge_target(self, number: str, target_branch: str) -> MergeResult:
        """Merge a moved target into the integration branch."""
        names = Names(number)
        theirs = await delivery.target_commit(self._git, target_branch)
        message = f"Merge {target_branch} into {number}\n"
        merge = await self._advance(names, theirs, message, {})
        return MergeResult(await self._head(names, merge.tip), theirs, merge.conflicts)

    async def holds(self, target_branch: str, commit: str) -> bool:
        """Whether the target has the commit already."""
        return await delivery.holds(self._git, target_branch, commit)

    async def swap_target(self, number: str, target_branch: str, commit: str) -> bool:
        """Fast-forward the target to the commit; False if the target has moved on."""
        ref = self._git.directory / "refs" / "heads" / target_branch
        async with self._locks.hold(f"target.{path_key(ref)}"):
            return await delivery.swap(self._git, target_branch, commit)

    async def release(self, number: str) -> None:
        """Remove the requirement's worktrees; branches and kept refs stay.

        What an attempt left that was neither merged nor kept is kept first.
        """
        for path in self._worktrees.below(number):
            async with self._locks.hold(path_key(path)):
                await self._processes.end(path)
                await self._keep_unmerged(Names(number), path)
                await self._worktrees.discard(path)
        if self._is_ours(number):
            await self._worktrees.discard(self._worktrees.place(number))

    def _is_ours(self, number: str) -> bool:
        """Whether this host has opened the requirement: its directory is made before any ref."""
        return self._worktrees.place(number).is_dir()

    async def _check_unused(self, names: Names) -> None:
        """Refuse the refs of an earlier life: they would pass for merges of this one."""
        if (await self._git.run("for-each-ref", "--count=1", *names.all)).text:
            raise ProjectRefused(
                f"{self._git.directory} holds branches of an earlier {names.number}. Take another "
                "number, or delete them: git for-each-ref --format='delete %(refname)' "
                f"{' '.join(names.all)} | git update-ref --stdin"
            )

    async def _create(self, names: Names, base: str) -> None:
        target, commit = "", base
        if not base:
            project = await check_project(self._git.directory)
            target, commit = project.branch, project.commit
        self._worktrees.place(names.number).mkdir(parents=True, exist_ok=True)
        written = await self._git.run("hash-object", "-w", "--stdin", stdin=target)
        refs = {names.base: commit, names.integration: commit, names.target: written.line}
        await move_refs(self._git, names.integration, None, refs)

    async def _integrate(self, request: StageRequest, summary: str) -> MergeResult:
        names, key = Names(request.ref.number), attempt_key(request)
        worktree = await self._usable(self._stage_path(request))
        if worktree is None:
            raise ProjectRefused(f"The worktree of {request.run_id} is gone before its merge.")
        message = stage_message(request, summary)
        snapshot = await take_snapshot(worktree, _base(request), message)
        commit = snapshot.commit
        if snapshot.unresolved:
            return MergeResult(await self._head(names), commit, snapshot.unresolved)
        refs = {names.stage(key): commit}
        merge = await self._advance(names, commit, merge_message(request), refs, names.merged(key))
        return MergeResult(await self._head(names, merge.tip), commit, merge.conflicts)

    async def _keep(self, names: Names, key: str, base: str, message: str) -> str:
        ref = names.kept(key)
        path = self._worktrees.place(names.number, f"{STAGE_PREFIX}{key}")
        # A ref that stands is not written again: its worktree may be half removed by now.
        if await self._git.commit_of(ref) is None:
            worktree = await self._usable(path)
            if worktree:
                commit = (await take_snapshot(worktree, base, message)).commit
            else:
                commit = await self._git.commit_of(names.stage(key)) or base
            await self._git.run("update-ref", ref, commit)
        await self._worktrees.discard(path)
        return ref

    async def _keep_unmerged(self, names: Names, path: Path) -> None:
        key = path.name.removeprefix(STAGE_PREFIX)
        is_stage = key != path.name
        if is_stage and await self._git.commit_of(names.merged(key)) is None:
            base = await self._commit(names.base)
            await self._keep(names, key, base, f"Keep what {key} left\n")

    async def _advance(
        self, names: Names, theirs: str, message: str, refs: Mapping[str, str], merged: str = ""
    ) -> Merge:
        """Merge and move `refs` with the integration branch; in a conflict only `refs` move."""
        async with self._merging(names.number):
            for _ in range(SWAP_TRIES):
                old = await self._commit(names.integration)
                merge = await merge_commits(self._git, old, theirs, message)
                moves = {**refs, names.integration: merge.tip}
                if merged and not merge.conflicts:
                    moves[merged] = merge.tip
                if await move_refs(self._git, names.integration, old, moves):
                    return merge
        raise GitFailed(f"{names.integration} moved {SWAP_TRIES} times while it was merged into.")

    async def _merged(self, names: Names, key: str) -> MergeResult | None:
        """What an earlier call for the attempt achieved."""
        tip = await self._git.commit_of(names.merged(key))
        commit = await self._git.commit_of(names.stage(key))
        return MergeResult(await self._head(names, tip), commit or tip) if tip else None

    async def _head(self, names: Names, tip: str = "") -> Head:
        """The integration tip; its position is the number of commits since the base."""
        commit = tip or await self._commit(names.integration)
        counted = await self._git.run("rev-list", "--count", f"{names.base}..{commit}")
        return Head(commit, int(counted.line))

    async def _commit(self, ref: str) -> str:
        commit = await self._git.commit_of(ref)
        if commit is None:
            raise ProjectRefused(f"{ref} is gone from {self._git.directory}.")
        return commit

    async def _usable(self, path: Path) -> Worktree | None:
        found = await self._worktrees.find(path)
        return found if found and found.is_usable else None

    async def _reset(self, worktree: Worktree, commit: str) -> bool:
        """Whether the worktree could be reset; a damaged one is made anew instead."""
        if not worktree.is_whole:
            return False
        worktree.unlock()
        try:
            await worktree.git.run("checkout", "--quiet", "--force", "--detach", commit)
            await worktree.git.run("clean", "--quiet", "-ffd")
        except GitFailed:
            return False
        return True

    def _stage_path(self, request: StageRequest) -> Path:
        return self._worktrees.place(request.ref.number, f"{STAGE_PREFIX}{attempt_key(request)}")

    def _merging(self, number: str) -> AbstractAsyncContextManager[None]:
        return self._locks.hold(f"merge.{number}")


def _base(request: StageRequest) -> str:
    if request.head is None:
        raise ProjectRefused(f"{request.run_id} has no commit to start from.")
    return request.head.commit
