"""Whether a project can be worked on, asked before anything is written."""

import re
from dataclasses import dataclass
from pathlib import Path

from adapters.git import Git
from pipeline.errors import ProjectRefused

OLDEST_GIT = (2, 38)
"""The first with `merge-tree --write-tree` (its release notes)."""


@dataclass(frozen=True)
class Project:
    """What is checked out in the project: the base and the target of a requirement."""

    branch: str
    commit: str


async def check_project(project_root: Path) -> Project:
    """The branch and commit to start from.

    Raises: ProjectRefused with the reason and what to do about it.
    """
    git = Git(project_root)
    await check_repository(git)
    commit = await git.commit_of("HEAD")
    if commit is None:
        raise ProjectRefused(f"{project_root} has no commit yet. Make a first one, then start.")
    branch = await _branch(git)
    await check_clean(git)
    return Project(branch, commit)


async def check_repository(git: Git) -> None:
    """Refuse what is not the root of a work tree, or a git that is too old."""
    _check_directory(git.directory)
    await _check_version(git)
    await _check_root(git)


async def check_clean(git: Git) -> None:
    """Refuse uncommitted changes of tracked files; untracked files are nobody's business."""
    status = await git.run(
        "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no",
        "--ignore-submodules=untracked",
    )  # fmt: skip
    if status.text:
        names = ", ".join(field[3:] for field in status.fields[:5])
        raise ProjectRefused(
            f"{git.directory} has uncommitted changes ({names}). Commit or stash them first."
        )


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise ProjectRefused(f"{path} is not a directory. Set PROJECT_ROOT to the project.")


async def _check_version(git: Git) -> None:
    version = (await git.run("--version")).line
    found = re.search(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GIT:
        raise ProjectRefused(f"{version}: at least {OLDEST_GIT[0]}.{OLDEST_GIT[1]} is needed.")


async def _check_root(git: Git) -> None:
    """The directory must be the root of a work tree, not a bare repository, not a folder of one."""
    asked = await git.run(
        "rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--show-prefix",
        accept=(0, 128),
    )  # fmt: skip
    if asked.code:
        raise ProjectRefused(
            f"{git.directory} cannot be used as a git repository: {asked.error.strip()}. "
            "Run `git init` and make a first commit there, or set PROJECT_ROOT to a repository."
        )
    is_bare, is_inside, prefix = (*asked.text.splitlines(), "")[:3]
    if is_bare == "true" or is_inside == "false":
        raise ProjectRefused(
            f"{git.directory} is a bare repository or a git directory. "
            "Set PROJECT_ROOT to a clone with a work tree."
        )
    if prefix:
        raise ProjectRefused(
            f"{git.directory} is the folder {prefix} of a repository. Set PROJECT_ROOT to its root."
        )


async def _branch(git: Git) -> str:
    head = await git.run("symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))
    if head.code:
        raise ProjectRefused(
            f"{git.directory} is on a detached HEAD. Check out the branch to deliver to."
        )
    if head.line.startswith("agog/"):
        raise ProjectRefused(
            f"{git.directory} is on {head.line}, a branch of the orchestrator. "
            "Check out the branch to deliver to."
        )
    if await git.commit_of("refs/heads/agog"):
        raise ProjectRefused(
            f"{git.directory} has a branch `agog`, which leaves no room for agog/<REQ>/… Rename it."
        )
    return head.line
