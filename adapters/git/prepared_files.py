"""What `prepare` has written into an agent's clone, told apart from the work of its agent.

Most of it is ignored by the project. What is not is noted before the agent starts: folders of
packages and large new folders as a whole, everything else file by file, with its content; the same
in each submodule. The agent's own git ignores what is new of it; the take-over leaves out what is
still as `prepare` left it.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.files import write_atomically
from adapters.git.agent_files import GIT_DIR, is_repository, make_readable
from adapters.git.clone import Clone
from adapters.git.command import Git
from adapters.git.diff import changes_of_index
from adapters.git.store import Submodule
from adapters.git.view import CloneView, add_everything

PACKAGE_FOLDERS = frozenset(
    {"node_modules", ".venv", "venv", "vendor", "target", ".gradle", ".yarn", ".pnpm-store"}
)
"""Names of folders that package managers and build tools fill."""
MOST_NAMED = 500
"""Files of one new folder that are noted one by one; of a larger one, only what is newer counts."""

_NOTED = "prepared.json"
_PREPARING = "preparing"
_EXCLUDES = "prepared.excludes"
_INDEX = "prepared.index"
_MARKERS = ("pyvenv.cfg", GIT_DIR)
"""A virtual environment, whatever its name; a repository of somebody else."""


@dataclass(frozen=True)
class PreparedFile:
    """A path that differs from the commit since `prepare` ran: git's mode and object, then and now.

    A mode of zeros stands for a file that is not there.
    """

    path: str
    old_mode: str
    old_blob: str
    mode: str
    blob: str

    @property
    def is_new(self) -> bool:
        """Whether the commit does not have it."""
        return not self.old_mode.strip("0")

    @property
    def is_removed(self) -> bool:
        """Whether `prepare` has removed it."""
        return not self.mode.strip("0")


@dataclass(frozen=True)
class Prepared:
    """What a clone holds beside its commit before its agent starts.

    `commands` say what was run; `folders` of packages are left out as a whole, `large` ones but for
    what is newer, `ignored` by the project itself. `since` is when, by the clock of the files.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    folders: tuple[str, ...] = ()
    large: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    files: tuple[PreparedFile, ...] = ()
    excludes: Path | None = field(default=None, compare=False)
    since: int = field(default=0, compare=False)
    """In nanoseconds."""

    def written_later(self, root: Path, names: Iterable[str]) -> Iterator[str]:
        """Those files that somebody has written since, also below those folders.

        One of several names of a file, as package managers share them, tells less: it changes its
        time whenever another one comes.
        """
        for name in names:
            for file in _files_below(root, name):
                try:
                    seen = os.lstat(os.path.join(root, file))
                except OSError:  # gone, or out of reach
                    continue
                changed = seen.st_ctime_ns if seen.st_nlink == 1 else seen.st_mtime_ns
                if max(changed, seen.st_mtime_ns) >= self.since:
                    yield file

    def leave_out(self, git: Git) -> Git:
        """The same git, to which the folders are ignored ones."""
        if self.excludes is None:
            return git
        return replace(git, options={**git.options, "core.excludesFile": str(self.excludes)})


def is_half_prepared(private: Path) -> bool:
    """Whether a `prepare` has begun in the clone and was cut off: nobody knows its files."""
    return (private / _PREPARING).exists()


def begin_preparing(private: Path) -> None:
    """Note, in what we keep beside the clone, that its files are about to change."""
    (private / _PREPARING).touch()


def read_prepared(private: Path) -> Prepared | None:
    """What was noted beside the clone; None if nothing was prepared to its end."""
    try:
        # A power cut may leave it empty: then nobody knows.
        fields = json.loads((private / _NOTED).read_text("utf-8") or "null")
        since = (private / _NOTED).stat().st_mtime_ns
    except FileNotFoundError:
        return None
    if fields is None:
        return None
    return Prepared(
        commands=tuple(map(tuple, fields["commands"])),
        folders=tuple(fields["folders"]),
        large=tuple(fields["large"]),
        ignored=tuple(fields["ignored"]),
        files=tuple(PreparedFile(**each) for each in fields["files"]),
        excludes=private / _EXCLUDES,
        since=since,
    )


async def note_prepared(clone: Clone, commit: str, commands: tuple[tuple[str, ...], ...]) -> None:
    """Note what lies in a clone beside the commit, submodules included; no process is left in it.

    Raises: GitFailed.
    """
    await asyncio.to_thread(make_readable, clone.path)  # git would wait for a pipe
    for module in await clone.store.submodules(commit):
        below = clone.below(module.path, clone.store.module(module.name, module.path))
        is_there = below.path.resolve() == clone.path.resolve() / module.path
        if is_there and is_repository(below.path) and await _knows(below, module):
            await note_prepared(below, module.commit, commands)
    git, place, private = clone.git, clone.path, clone.private
    # As if the work were taken over now: what would be taken is not the agent's.
    folders, large = await asyncio.to_thread(_whole_folders, place, await _untracked(git))
    excludes, index = private / _EXCLUDES, private / _INDEX
    patterns = [_pattern(each) for each in (*folders, *large)]
    await asyncio.to_thread(_write_patterns, excludes, patterns)
    prepared = Prepared(commands, folders, large, excludes=excludes)
    await asyncio.to_thread(shutil.copy2, private / "index", index)
    look = prepared.leave_out(git.on(place, index))
    await add_everything(look)
    files = tuple(
        PreparedFile(each.path, each.old_mode, each.old_blob, each.mode, each.blob)
        for each in await changes_of_index(look, commit)
    )
    ignored = await look.run(
        "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"
    )
    noted = replace(prepared, files=files, ignored=ignored.fields)
    await asyncio.to_thread(_hide_from_agent, place, noted)
    await asyncio.to_thread(_write, private, noted)


async def _knows(below: Clone, module: Submodule) -> bool:
    """Whether its store has the submodule's commit; `prepare` may have fetched it by itself."""
    if below.index.exists():
        return True
    await below.store.make_empty()
    with TemporaryDirectory(prefix="take-", dir=below.store.path) as scratch:
        await (await CloneView.open(below, Path(scratch, "view"))).tips()
    if not await below.store.git.commit_of(module.commit):
        return False
    await asyncio.to_thread(os.makedirs, below.private, exist_ok=True)
    await below.git.run("read-tree", module.commit)
    return True


def _write(private: Path, noted: Prepared) -> None:
    fields = {k: v for k, v in asdict(noted).items() if k not in ("excludes", "since")}
    write_atomically(private / _NOTED, json.dumps(fields))
    (private / _INDEX).unlink(missing_ok=True)
    (private / _PREPARING).unlink(missing_ok=True)


async def _untracked(git: Git) -> tuple[str, ...]:
    """New files that nobody ignores; a folder of which nothing is tracked ends with a slash."""
    listed = await git.run("ls-files", "--others", "--exclude-standard", "--directory", "-z")
    return listed.fields


def _whole_folders(
    place: Path, untracked: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """New folders that are left out as a whole: of packages and repositories; and large ones."""
    found: list[str] = []
    large: list[str] = []
    for name in untracked:
        if name.endswith("/"):
            inner, files = _package_folders(place, place / name)
            found += inner
            large += [name.rstrip("/")] if files > MOST_NAMED else []
    return tuple(found), tuple(large)


def _files_below(root: Path, name: str) -> Iterator[str]:
    """The file of that name, or all files of that folder."""
    if not (root / name).is_dir() or (root / name).is_symlink():
        if os.path.lexists(root / name):
            yield name
        return
    for path, folders, names in os.walk(root / name):
        links = (each for each in folders if os.path.islink(os.path.join(path, each)))
        here = os.path.relpath(path, root)
        yield from (os.path.join(here, each) for each in (*names, *links))


def _package_folders(place: Path, folder: Path) -> tuple[list[str], int]:
    """Folders of packages in it, itself included, and how many files lie beside them."""
    found, files = [], 0
    for path, folders, names in os.walk(folder):
        here = Path(path)
        if here.name in PACKAGE_FOLDERS or {*folders, *names}.intersection(_MARKERS):
            found.append(str(here.relative_to(place)))
            folders.clear()
        else:
            files += len(names)
    return found, files


def _pattern(path: str) -> str:
    """The pattern of an exclude file that means this very path."""
    escaped = "".join(f"\\{mark}" if mark in "\\*?[ " else mark for mark in path)
    return "/" + escaped.replace("\n", "?").replace("\r", "?")  # a line cannot hold them


def _write_patterns(path: Path, patterns: list[str]) -> None:
    text = "".join(f"{pattern}\n" for pattern in patterns)
    path.write_text(text, "utf-8", "surrogateescape")


def _hide_from_agent(place: Path, prepared: Prepared) -> None:
    """Let the clone's own git ignore what is new, so that `git add .` does not commit it."""
    new = [each.path for each in prepared.files if each.is_new]
    patterns = [_pattern(each) for each in (*prepared.folders, *prepared.large, *new)]
    info = place / GIT_DIR / "info"
    # What ran there may have put links in their places: we write nowhere else by them.
    if not patterns or any(each.is_symlink() for each in (info.parent, info)):
        return
    try:
        info.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        file = os.open(info / "exclude", flags, 0o644)
    except OSError:  # the take-over leaves it out all the same
        return
    with os.fdopen(file, "w", encoding="utf-8", errors="surrogateescape") as exclude:
        exclude.write("\n" + "".join(f"{pattern}\n" for pattern in patterns))


def left_as_prepared(
    prepared: Prepared, entries: Mapping[str, str], tracked: Collection[str]
) -> tuple[PreparedFile, ...]:
    """What nobody has changed since `prepare`, so that it is not the agent's work.

    `entries` is what a take-over would commit: mode, object and stage by path. A new file that the
    agent's own index tracks was added on purpose: git had to be forced to.
    """
    return tuple(
        each
        for each in prepared.files
        if not (each.is_new and each.path in tracked)
        and (
            each.path not in entries
            if each.is_removed
            else entries.get(each.path) == f"{each.mode} {each.blob} 0"
        )
    )
