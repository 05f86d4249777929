"""Merges without a checkout: a conflict leaves nothing behind, because nothing was touched."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.git import Git
from pipeline.errors import GitFailed

UNNAMED_CONFLICT = "(a conflict that git names no file for)"


@dataclass(frozen=True)
class Merge:
    """The new tip, or the old one and the files in conflict."""

    tip: str
    conflicts: tuple[str, ...] = ()


async def merge_commits(git: Git, ours: str, theirs: str, message: str) -> Merge:
    """Merge `theirs` into `ours`: nothing, a fast-forward or a merge commit, whatever suffices."""
    if await git.succeeds("merge-base", "--is-ancestor", theirs, ours):
        return Merge(ours)
    if await git.succeeds("merge-base", "--is-ancestor", ours, theirs):
        return Merge(theirs)
    merged = await git.run(
        "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs,
        accept=(0, 1),
    )  # fmt: skip
    tree, *names = merged.fields
    if merged.code:
        # The exit code decides; git-merge-tree(1) warns that the list may be empty.
        conflicts = tuple(dict.fromkeys(_printable(name) for name in names))
        return Merge(ours, conflicts or (UNNAMED_CONFLICT,))
    commit = await git.run("commit-tree", tree, "-p", ours, "-p", theirs, "-F", "-", stdin=message)
    return Merge(commit.line)


async def move_refs(git: Git, guarded: str, old: str | None, new: Mapping[str, str]) -> bool:
    """Move all refs or none; False if `guarded` no longer stands at `old` (None: is not there)."""
    expected = old or "0" * len(new[guarded])
    commands = "".join(
        f"update {ref}\0{commit}\0{expected if ref == guarded else ''}\0"
        for ref, commit in new.items()
    )
    moved = await git.run("update-ref", "-z", "--stdin", stdin=commands, accept=(0, 128))
    if moved.code == 0:
        return True
    if await git.commit_of(guarded) != old:
        return False
    raise GitFailed(f"git update-ref in {git.directory}: {moved.error.strip()}")


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
