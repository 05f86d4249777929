"""Files that agents have left: how they are opened, read and removed, whatever they are.

They belong to whoever started the agent, and may be closed, links, pipes or sockets.
"""

import errno
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

GIT_DIR = ".git"


def is_plain(path: Path) -> bool:
    """Whether it is a file of its own, not a link to another one."""
    return path.is_file() and not path.is_symlink()


def is_repository(path: Path) -> bool:
    """Whether a git directory lies in that folder, or a pointer to one; a link is no folder."""
    return path.is_dir() and not path.is_symlink() and os.path.lexists(path / GIT_DIR)


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


def make_readable(clone: Path) -> tuple[list[str], list[str]]:
    """Open a repository's root and its `.git`; remove what is no file.

    Returns what that was, and folders nested so deeply that no path leads to them.

    Git waits for ever for the writer of a pipe. Other folders that are closed stay so: git says
    of which it cannot read the files. Whoever started an agent owns what it has left.
    """
    open_folder(clone)
    found: list[Path] = []
    too_deep: list[Path] = []
    places = [(clone, False)]
    while places:
        place, is_git = places.pop()
        try:
            below, no_files = _made_readable(place, is_git)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                too_deep.append(place)
            elif error.errno != errno.EACCES:  # closed
                raise
        else:
            places += below
            found += no_files
    names, deep = ([str(p.relative_to(clone)) for p in paths] for paths in (found, too_deep))
    return sorted(names), deep


def _made_readable(place: Path, is_git: bool) -> tuple[list[tuple[Path, bool]], list[Path]]:
    """The same for one folder: those in it, whether they belong to git, and what was no file."""
    below, no_files = [], []
    for entry in list(os.scandir(place)):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            is_git_dir = is_git or entry.name == GIT_DIR
            if is_git_dir:
                open_folder(path)
            below.append((path, is_git_dir))
        elif is_git and _leads_to_no_file(path):
            path.unlink()
        elif is_git and entry.is_file(follow_symlinks=False):
            _allow(path, stat.S_IRUSR)
        elif not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
            open_folder(place)
            path.unlink()
            no_files.append(path)
    return below, no_files


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
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except (RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EMFILE:
            raise
        # It goes down with a frame and a file for each level, which are not that many.
        removed = subprocess.run(("rm", "-rf", "--", path), capture_output=True, check=False)
        if removed.returncode:
            raise OSError(removed.stderr.decode(errors="replace").strip()[-500:]) from error
