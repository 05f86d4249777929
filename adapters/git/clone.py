"""Clones of our store, one for each stage and each build: whole, their own, and thrown away.

A clone borrows the store's objects and has a git directory of its own, in which the agent
may do what it likes. We never read that directory as configuration: files are written and taken by
the store's git, with an index that lies where no agent is told of.
"""

import asyncio
import json
import logging
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.files import write_atomically
from adapters.git.agent_files import GIT_DIR, pointed_at, remove_tree
from adapters.git.command import Git
from adapters.git.store import STORES, Store
from adapters.locks import Locks
from pipeline.errors import GitFailed, ProjectRefused, RefusedInput

CLONES = "clones"
"""Folder of the state directory that holds the clones: number / name."""
PRIVATE = "indexes"
"""Folder of the state directory that holds what we know of each clone, by the same path."""
LEFT = "left"
"""Folder of the state directory that keeps what agents have put beside their clones."""
STAGE, BUILD, KEPT_BUILD = "stage", "build", "kept"
"""How the names of clones begin."""

BOUNDARY = ("pytest.ini", "ruff.toml")
"""Empty files of the state directory: they end the search of tools that look for a configuration
in every directory above a project, and would find ours where the state directory is in our tree."""

_ASIDE = ".aside-"
_CHECKOUT = "checkout.json"
_SHA1_LENGTH = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clone:
    """A place to work in: `path` is the agent's or the build's, `private` is ours alone."""

    path: Path
    private: Path
    store: Store

    @property
    def index(self) -> Path:
        """The index with which the files were written: it knows which are unchanged since."""
        return self.private / "index"

    @property
    def git(self) -> Git:
        """The store's git on these files."""
        return self.store.git.on(self.path, self.index)

    @property
    def git_dir(self) -> Path:
        """The clone's own git directory: whatever lies there by now."""
        return self.path / GIT_DIR

    @property
    def commit(self) -> str:
        """The commit that was checked out; empty unless the clone was made to its end."""
        found = _read(self.private)
        return found.commit if found else ""

    @property
    def is_usable(self) -> bool:
        """Whether its files can be trusted to be all that was left in it."""
        is_there = self.path.is_dir() and not self.path.is_symlink()
        return is_there and bool(self.commit)

    def below(self, path: str, store: Store) -> "Clone":
        """The clone of a submodule in this one."""
        return Clone(self.path / path, self.private / "modules" / store.path.name, store)

    async def make(self, commit: str, *, branch: str = "", author: str = "") -> None:
        """Check the commit out, on a branch or detached; what was there before is removed.

        `author` is the name under which git commits there. Raises: GitFailed.
        """
        await self.discard()
        await asyncio.to_thread(os.makedirs, self.private)
        await asyncio.to_thread(os.makedirs, self.path)
        await self._write(commit, branch, author)

    async def reset(self, commit: str) -> bool:
        """Check out another commit, detached, and remove what is not ignored; False if damaged.

        Nothing may run in it any more.
        """
        if not self.is_usable:
            return False
        try:
            await asyncio.to_thread((self.private / _CHECKOUT).unlink)
            await asyncio.to_thread(remove_tree, self.git_dir)
            await self._write(commit, "", "", clean=True)
        except (GitFailed, OSError):
            return False
        return True

    async def discard(self) -> None:
        """Remove it, whatever state it is in; what is not ours to remove is put aside.

        A program in a container may have written files of another owner. Raises: GitFailed.
        """
        try:
            # What says that it is whole goes first, what says that it is ours goes last.
            await asyncio.to_thread((self.private / _CHECKOUT).unlink, missing_ok=True)
            try:
                await asyncio.to_thread(remove_tree, self.path)
            except OSError:
                aside = self.path.with_name(f"{_ASIDE}{self.path.name}-{time.monotonic_ns()}")
                await asyncio.to_thread(self.path.rename, aside)
                log.warning("%s cannot be removed: it is put aside as %s", self.path, aside.name)
            await asyncio.to_thread(remove_tree, self.private)
        except OSError as error:
            raise GitFailed(f"{self.path} cannot be removed: {error}") from error

    async def _write(self, commit: str, branch: str, author: str, *, clean: bool = False) -> None:
        await asyncio.to_thread(os.makedirs, self.private, exist_ok=True)
        await self._make_git_dir(commit, branch, author)
        await self.git.run("read-tree", "-u", "--reset", commit)
        if clean:
            await self.git.run("clean", "--quiet", "-ffd")
        for module in await self.store.submodules(commit):
            store = self.store.module(module.name, module.path)
            is_there = store.exists and await store.git.commit_of(module.commit)
            if store.is_mirrored and not is_there:
                raise ProjectRefused(
                    f"The submodule {module.path} of {commit[:10]} stands at "
                    f"{module.commit[:10]}, which {store.source} does not have. Run `git "
                    "submodule update` in PROJECT_ROOT, then retry."
                )
            if is_there:
                below = self.below(module.path, store)
                await asyncio.to_thread(os.makedirs, below.path, exist_ok=True)
                await asyncio.to_thread(remove_tree, below.git_dir)
                await below._write(module.commit, "", author, clean=clean)
                config = Git.ours(self.git_dir)
                await config.run("config", f"submodule.{module.name}.active", "true")
        tree = (await self.git.run("write-tree")).line
        await asyncio.to_thread(self._finish, CheckedOut(commit, tree, self.store.path.name))

    async def _make_git_dir(self, commit: str, branch: str, author: str) -> None:
        """A git directory with the project's branches and tags, without a remote or a setting.

        Refs are written as one file: a process for each would take longer than the checkout.
        """
        head = f"refs/heads/{branch}"
        listed = await self.store.packed_refs()
        if branch:
            listed += f"{commit} {head}\n"
        objects = f"--object-format={'sha256' if len(commit) > _SHA1_LENGTH else 'sha1'}"
        await Git.ours(self.git_dir, directory=self.path).run(
            "init", "--quiet", "--template=", objects, "--initial-branch", branch or "none",
        )  # fmt: skip
        await asyncio.to_thread(self._fill_git_dir, commit, branch, author, listed)

    def _fill_git_dir(self, commit: str, branch: str, author: str, packed: str) -> None:
        git_dir, objects = self.git_dir, self.store.path / "objects"
        (git_dir / "objects" / "info" / "alternates").write_bytes(bytes(objects) + b"\n")
        (git_dir / "packed-refs").write_text(packed, "utf-8", "surrogateescape")
        if not branch:
            (git_dir / "HEAD").write_text(f"{commit}\n")
        shallow = self.store.path / "shallow"
        if shallow.exists():
            shutil.copyfile(shallow, git_dir / "shallow")
        if author:
            with (git_dir / "config").open("a") as config:
                email = f"{author.lower()}@agents.agog.invalid"
                config.write(f"[user]\n\tname = {author}\n\temail = {email}\n")

    def _finish(self, made: "CheckedOut") -> None:
        # The copy's time must stay: git compares with it which files may have changed since.
        shutil.copy2(self.index, self.git_dir / "index")
        write_atomically(self.private / _CHECKOUT, json.dumps(asdict(made)), durable=False)


@dataclass(frozen=True)
class CheckedOut:
    """What was checked out in a clone, and the name of the store that it was taken from."""

    commit: str
    tree: str
    store: str


def checked_out(home: Path, path: Path, locks: Locks) -> tuple[CheckedOut, Clone] | None:
    """The clone at that path and what it holds; its store reads nothing of the user's.

    None if it was not made to its end. What was built or left there has no say.
    """
    private = home / PRIVATE / path.parent.name / path.name
    found = _read(private)
    if found is None:
        return None
    store = Store(home / STORES / found.store, Path(os.devnull), locks, {})
    return found, Clone(path, private, store)


def _read(private: Path) -> CheckedOut | None:
    try:
        # A power cut may leave it empty: then nobody knows what the clone was made to be.
        text = (private / _CHECKOUT).read_text("utf-8") or "null"
    except FileNotFoundError:
        return None
    fields = json.loads(text)
    return CheckedOut(**fields) if fields else None


class Clones:
    """The clones of one state directory."""

    def __init__(self, home: Path, store: Store) -> None:
        self._home = home
        self._root = home / CLONES
        self._private = home / PRIVATE
        self._left = home / LEFT
        self._store = store

    def at(self, number: str, name: str) -> Clone:
        """The clone of that name, made or not. Raises: RefusedInput for a name that leads out."""
        place = self.place(number)
        if not name or Path(name).name != name or name.startswith("."):
            raise RefusedInput(f"{number}/{name} is no place for a clone.")
        return Clone(place / name, self._private / number / name, self._store)

    def below(self, number: str) -> tuple[Clone, ...]:
        """The clones of a requirement."""
        return tuple(self.at(number, name) for name in self._ours(number))

    def _ours(self, number: str) -> list[str]:
        """Names of clones: an agent may use any name, but not tell us of it."""
        return sorted(path.name for path in (self._private / number).glob("*"))

    def place(self, number: str) -> Path:
        """The directory of a requirement's clones.

        Raises: RefusedInput if the number leads out of it: what lies there gets deleted.
        """
        if not number or Path(number).name != number or number in (".", ".."):
            raise RefusedInput(f"{number!r} is no place for clones.")
        return self._root / number

    def make_place(self, number: str) -> None:
        """Make the directory of a requirement's clones, and what keeps our tree out of them."""
        self.place(number).mkdir(parents=True, exist_ok=True)
        for name in BOUNDARY:
            (self._home / name).touch()

    def strangers(self, number: str) -> tuple[Path, ...]:
        """What agents have put beside their clones, and what is no worktree of one."""
        place, ours = self.place(number), self._ours(number)
        if not place.is_dir():
            return ()
        beside = (path for path in sorted(place.iterdir()) if path.name not in ours)
        return tuple(
            path for path in beside
            if not (path.name.startswith(_ASIDE) or self._is_worktree(path, place))
        )  # fmt: skip

    def _is_worktree(self, path: Path, place: Path) -> bool:
        """Whether its git directory lies in a clone: its commits are taken over with that."""
        git_dir = None if path.is_symlink() else pointed_at(path / GIT_DIR)
        if git_dir is None or git_dir.parent.name != "worktrees":
            return False
        return git_dir.is_relative_to(place.resolve())

    async def discard_all(self, number: str) -> None:
        """Remove a requirement's directory, but for strangers: they are moved out.

        Raises: GitFailed.
        """
        try:
            for stranger in await asyncio.to_thread(self.strangers, number):
                await asyncio.to_thread(self._move_out, number, stranger)
            for place in (self._private / number, self.place(number)):
                await asyncio.to_thread(remove_tree, place)
        except OSError as error:
            raise GitFailed(f"{self.place(number)} cannot be removed: {error}") from error

    def left_beside(self, number: str) -> Path:
        """Where what agents have put beside their clones is kept."""
        return self._left / number

    def _move_out(self, number: str, stranger: Path) -> None:
        kept = self.left_beside(number)
        kept.mkdir(parents=True, exist_ok=True)
        place = kept / stranger.name
        if os.path.lexists(place):
            place = kept / f"{stranger.name}-{time.monotonic_ns()}"
        stranger.rename(place)
