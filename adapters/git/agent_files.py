"""Files that agents have left: how they are opened, read and removed, whatever they are.

They belong to whoever started the agent, and may be closed, links, pipes or sockets.
"""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

GIT_DIR = ".git"


def is_plain(path: Path) -> bool:
    """Whether it is a file of its own, not a link to another one."""
    return path.is_file() and not path.is_symlink()


def is_repository(path: Path) -> bool:
    """Whether a git directory lies in that folder, or a pointer to one."""
    return path.is_dir() and os.path.lexists(path / GIT_DIR)


def pointed_at(pointer: Path) -> Path | None:
    """The git directory that a file `.git` names, links resolved; None if it is no file."""
    if not is_plain(pointer):
        return None
    text = pointer.read_text(errors="surrogateescape").removeprefix("gitdir:").strip()
    return (pointer.parent / text).resolve()


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder, read-only ones included. Raises: OSError."""
    try:
        _remove(path)
    except PermissionError:
        # Package managers write read-only caches; an agent may have closed a folder.
        _open_folders(path)
        _remove(path)


def make_readable(clone: Path) -> list[str]:
    """Open a repository's root and its `.git`; remove what is no file; returns what it was.

    Git waits for ever for the writer of a pipe. Other folders that are closed stay so: git says
    of which it cannot read the files. Whoever started an agent owns what it has left.
    """
    open_folder(clone)
    found, places = [], [(clone, False)]
    while places:
        place, is_git = places.pop()
        try:
            entries = list(os.scandir(place))
        except PermissionError:
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                is_git_dir = is_git or entry.name == GIT_DIR
                if is_git_dir:
                    open_folder(path)
                places.append((path, is_git_dir))
            elif is_git and _leads_to_no_file(path):
                path.unlink()
            elif is_git and entry.is_file(follow_symlinks=False):
                _allow(path, stat.S_IRUSR)
            elif not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                open_folder(place)
                path.unlink()
                found.append(str(path.relative_to(clone)))
    return sorted(found)


def open_folder(path: Path) -> None:
    """Let its owner read it, write to it and enter it."""
    if path.is_dir() and not path.is_symlink():
        _allow(path, stat.S_IRWXU)


def _allow(path: Path, mode: int) -> None:
    before = os.lstat(path).st_mode
    if before & mode != mode:
        with suppress(PermissionError):  # it is somebody else's
            os.chmod(path, before | mode)


def _leads_to_no_file(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:  # it leads nowhere
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _open_folders(path: Path) -> None:
    folders = [path]
    while folders:
        folder = folders.pop()
        open_folder(folder)
        with os.scandir(folder) as entries:
            folders += [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
