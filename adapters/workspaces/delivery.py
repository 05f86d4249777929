"""The one moment at which the user's own branch moves: a fast-forward or nothing."""

from dataclasses import dataclass
from pathlib import Path

from adapters.git import Git
from adapters.workspaces.merging import move_refs
from adapters.workspaces.project import check_clean
from pipeline.errors import ProjectRefused


@dataclass(frozen=True)
class Checkout:
    """A worktree of the project, the user's main one included, and its branch."""

    path: Path
    branch: str

    @property
    def is_there(self) -> bool:
        """Whether the directory still exists; git remembers those that do not."""
        return self.path.is_dir()


async def target_commit(project: Git, target: str) -> str:
    """The target's tip. Raises: ProjectRefused if the branch is gone."""
    commit = await project.commit_of(f"refs/heads/{target}")
    if commit is None:
        raise ProjectRefused(f"The target branch {target} is gone. Create it again, then retry.")
    return commit


async def holds(project: Git, target: str, commit: str) -> bool:
    """Whether the target has that commit already. Raises: ProjectRefused if the branch is gone."""
    current = await target_commit(project, target)
    return await project.succeeds("merge-base", "--is-ancestor", commit, current)


async def swap(project: Git, target: str, commit: str) -> bool:
    """Fast-forward the target to the commit; False if it holds something that the commit does not.

    Raises: ProjectRefused if it is checked out and cannot be moved there.
    """
    current = await target_commit(project, target)
    if await holds(project, target, commit):
        return True
    if not await project.succeeds("merge-base", "--is-ancestor", current, commit):
        return False
    await _check_rebases(project, target)
    for checkout in await checkouts(project):
        if checkout.branch == f"refs/heads/{target}":
            return await _forward_checkout(Git(checkout.path), target, current, commit)
    ref = f"refs/heads/{target}"
    return await move_refs(project, ref, current, {ref: commit})


async def checkouts(project: Git) -> tuple[Checkout, ...]:
    """The worktrees of the project that are there and on a branch."""
    listed = await project.run("worktree", "list", "--porcelain", "-z")
    blocks = (block.split("\0") for block in listed.text.split("\0\0"))
    entries = [dict(line.partition(" ")[::2] for line in block if line) for block in blocks]
    found = (Checkout(Path(e["worktree"]), e["branch"]) for e in entries if "branch" in e)
    return tuple(checkout for checkout in found if checkout.is_there)


async def _forward_checkout(place: Git, target: str, current: str, commit: str) -> bool:
    await check_clean(place)
    merged = await place.run(
        "merge", "--ff-only", "--no-autostash", "--quiet", commit, accept=(0, 1, 2, 128)
    )
    now = await target_commit(place, target)
    if now == commit:
        return True
    if now != current:
        return False
    raise ProjectRefused(
        f"{target} is checked out in {place.directory}, where git refused to move it: "
        f"{(merged.error or merged.text).strip()[-2000:]}"
    )


async def _check_rebases(project: Git, target: str) -> None:
    """A branch in a rebase is checked out nowhere, yet moving it would break the rebase."""
    common = await project.run("rev-parse", "--git-common-dir")
    directory = project.directory / common.line
    for git_dir in (directory, *directory.glob("worktrees/*")):
        for head in git_dir.glob("rebase-*/head-name"):
            if head.read_text().strip() == f"refs/heads/{target}":
                raise ProjectRefused(f"{target} is being rebased. Finish the rebase, then retry.")
