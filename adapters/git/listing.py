"""The listing of a repository's last commit, with the texts of its manifests.

The commit is read and not the files on disk: a build sees no more than what is committed.
"""

import asyncio
from pathlib import Path

from adapters.git.command import Git
from adapters.git.project import Project
from pipeline.errors import ProjectRefused
from pipeline.project_files import ProjectFiles, wanted

TEXT_BYTES = 1024 * 1024
"""A larger manifest is no manifest."""
_AT_ONCE = 8
_FILE = "100"
"""How the mode of a regular file begins; the others are links and submodules."""


async def list_project(root: Path) -> ProjectFiles:
    """What is committed. Raises: ProjectRefused if it is no root of a repository with a commit."""
    await Project(root).check_repository()
    git = Git(root)
    commit = await git.commit_of("HEAD")
    if commit is None:
        raise ProjectRefused(f"{root} has no commit yet. Make a first one, then try again.")
    listing = await git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    blobs: dict[str, str] = {}
    for line in listing.fields:
        told, _, path = line.partition("\t")
        mode, _, blob, size = told.split()
        if mode.startswith(_FILE) and int(size) <= TEXT_BYTES:
            blobs[path] = blob
    slots = asyncio.Semaphore(_AT_ONCE)

    async def text(path: str) -> tuple[str, str]:
        async with slots:
            return path, (await git.run("cat-file", "blob", blobs[path])).text

    texts = await asyncio.gather(*map(text, wanted(list(blobs))))
    return ProjectFiles(frozenset(blobs), dict(texts))
