"""A branch of our own in the user's repository, and its push: a delivery that moves no target.

The push is the user's own: her settings say how the remote is reached, and her `pre-push` hook
runs. It is never forced, and names one branch.
"""

import shlex
from dataclasses import replace

from adapters.git.command import Git
from adapters.git.project import Project
from adapters.git.store import Names, Store
from pipeline.errors import GitFailed, ProjectRefused
from pipeline.model import BranchOrder

PUSH_SECONDS = 600.0
"""After which a push is taken to hang; a large one to a slow service takes minutes."""
_SAID = 2000
"""How much of git's own words is told."""


async def place(project: Project, store: Store, order: BranchOrder) -> None:
    """Make the branch, or move the one that an earlier delivery of this requirement has made.

    A repeat finds what is done. Raises: ProjectRefused if it is somebody else's.
    """
    await project.finish_moves(store)
    ref, ours = f"refs/heads/{order.branch}", Names(order.number).published
    there, placed = await project.git.commit_of(ref), await store.git.commit_of(ours)
    if there != order.commit:
        if there and (there != placed or await project.is_checked_out(order.branch)):
            rename = shlex.join(("git", "branch", "-m", order.branch, "NEW-NAME"))
            raise ProjectRefused(
                f"{project.root} has a branch {order.branch} at {there[:10]}, which somebody else "
                f"made, moved or works on. Rename it, then retry: {rename}"
            )
        await project.hand_over(store, order.number, order.target, order.commit)
        await project.make_branch(order.branch, order.commit, there)
    await store.git.run("update-ref", ours, order.commit)


async def push(project: Project, order: BranchOrder) -> str:
    """Push the branch; the remote it is on now, empty if the project has none.

    Raises: ProjectRefused with git's own words; the branch is kept, and the message names it.
    """
    try:
        remote = await _remote(project.git, order)
        if remote:
            await _push(project.git, order, remote)
    except ProjectRefused as refusal:
        raise ProjectRefused(
            f"The verified work is the branch {order.branch} of {project.root}, at "
            f"{order.commit[:10]}. {refusal}"
        ) from refusal
    return remote


async def _remote(git: Git, order: BranchOrder) -> str:
    """Where the branch is pushed to: as configured, else where the target goes, else `origin`.

    Raises: ProjectRefused if that is not there, or cannot be told.
    """
    names = (await git.run("remote")).text.splitlines()
    if order.remote:
        if order.remote in names:
            return order.remote
        raise ProjectRefused(
            f"There is no remote {order.remote} to push it to; there are: "
            f"{', '.join(names) or 'none'}. Correct remote in [delivery], then retry."
        )
    target = f"branch.{order.target}"
    for key in (f"{target}.pushRemote", "remote.pushDefault", f"{target}.remote"):
        said = (await git.run("config", key, accept=(0, 1))).line
        if said in names:
            return said
    if "origin" in names or len(names) == 1:
        return "origin" if "origin" in names else names[0]
    if names:
        raise ProjectRefused(
            f"It was not pushed: {', '.join(names)} are remotes, and none of them is the one of "
            f"{order.target}. Name one as remote in [delivery], then retry."
        )
    if order.needs_remote:
        raise ProjectRefused(
            "It was not pushed: there is no remote. Add one (git remote add origin …), or set mode "
            '= "branch" in [delivery], then retry.'
        )
    return ""


async def _push(git: Git, order: BranchOrder, remote: str) -> None:
    """Push that one branch. Raises: ProjectRefused with git's words."""
    pushing = replace(git, is_users_push=True, seconds=PUSH_SECONDS)
    try:
        pushed = await pushing.run(
            "push", "--no-force", "--no-follow-tags", "--no-signed", "--recurse-submodules=no",
            "--", remote, f"{order.commit}:refs/heads/{order.branch}",
            accept=tuple(range(256)),
        )  # fmt: skip
        said, is_pushed = pushed.error.strip(), pushed.code == 0
    except GitFailed as late:
        said, is_pushed = str(late), False
    if not is_pushed:
        raise ProjectRefused(f"It was not pushed to {remote}: {said[-_SAID:]} Then retry.")
