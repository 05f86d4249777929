"""What two trees, or an index and a tree, have differently: git's raw output as values."""

from dataclasses import dataclass

from adapters.git.command import Git

SYMLINK = "120000"
GITLINK = "160000"
_NOTHING = "000000"


@dataclass(frozen=True)
class Change:
    """A path that two sides have differently: mode and object of each; zeros where it is not."""

    path: str
    old_mode: str
    mode: str
    old_blob: str
    blob: str

    @property
    def was_there(self) -> bool:
        """Whether the old side has it."""
        return self.old_mode != _NOTHING

    @property
    def is_there(self) -> bool:
        """Whether the new side has it."""
        return self.mode != _NOTHING

    @property
    def is_file(self) -> bool:
        """Whether it is a file now: neither a link nor another repository."""
        return self.mode.startswith("100")

    @property
    def is_blob(self) -> bool:
        """Whether it is a file or a link now."""
        return self.is_file or self.is_link

    @property
    def is_pointer(self) -> bool:
        """Whether it is the commit of another repository now."""
        return self.mode == GITLINK

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link now."""
        return self.mode == SYMLINK


async def changes_between(git: Git, old: str, new: str, *options: str) -> list[Change]:
    """What differs from one tree to another; `options` are those of git-diff-tree(1)."""
    return await _read(git, "diff-tree", "-r", *options, old, new)


async def changes_of_index(git: Git, old: str, *options: str) -> list[Change]:
    """What the index has otherwise than a tree; `options` are those of git-diff-index(1)."""
    return await _read(git, "diff-index", "--cached", *options, old)


async def _read(git: Git, command: str, *arguments: str) -> list[Change]:
    listed = await git.run(command, "--raw", "-z", "--no-renames", "--no-abbrev", *arguments)
    changes = []
    for meta, path in zip(listed.fields[::2], listed.fields[1::2], strict=True):
        old_mode, mode, old_blob, blob, _ = meta.removeprefix(":").split(" ")
        changes.append(Change(path, old_mode, mode, old_blob, blob))
    return changes
