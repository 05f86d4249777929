"""Our own bare repository of a project: the only place where results, merges and kept work live.

It is made from the user's repository by git and shares its object files by hard links where both
lie on one file system. No agent is told of it, its configuration is ours alone, and nothing in it
is ever collected: clones borrow its objects. A submodule that the user has initialised has a store
of its own below that of its project.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.git.command import Git
from adapters.git.diff import GITLINK, changes_between
from adapters.locks import Locks, path_key
from pipeline import numbers
from pipeline.errors import GitFailed, ProjectRefused, printable
from pipeline.model import StageRequest
from pipeline.numbers import integration_branch

log = logging.getLogger(__name__)

STORES = "repositories"
"""Folder of the state directory that holds the stores, one for each project."""
UNNAMED_CONFLICT = "(a conflict that git names no file for)"
ATTRIBUTES = ".gitattributes"

PROJECT_REFS = "refs/project/"
"""The user's branches and tags as they were when they were taken over."""

PROJECT_HEADS = f"{PROJECT_REFS}heads/"
_BRANCHES, _TAGS = PROJECT_HEADS, f"{PROJECT_REFS}tags/"
MOST_LOOSE, MOST_PACKS = 2_000, 50
"""Loose objects and packs of a store before they are packed: about 130 requirements.

With 20,000 loose refs and 40,000 loose objects a stage took two to five times as long.
"""
_SCRATCH_SECONDS = 24 * 3600.0
"""Age of a scratch directory that nobody uses any more."""
_CONFIGURATION = {
    "core.bare": "true",
    "core.logAllRefUpdates": "false",
    "core.fsync": "committed,reference",
    "core.fsyncMethod": "batch",
    "gc.auto": "0",
    "gc.pruneExpire": "never",
    "uploadpack.allowAnySHA1InWant": "true",
}


def attempt_key(request: StageRequest) -> str:
    """Names one attempt of one stage within its requirement."""
    return numbers.attempt_key(request.stage.name, request.attempt)


@dataclass(frozen=True)
class Names:
    """Refs of one requirement in the store; `key` is an `attempt_key`."""

    number: str

    @property
    def all(self) -> tuple[str, str]:
        """The two folders that hold every ref of the requirement."""
        return f"{self.integration.rpartition('/')[0]}/", f"refs/agog/{self.number}/"

    @property
    def integration(self) -> str:
        """The branch that collects the merges; that it exists says that opening is complete."""
        return f"refs/heads/{integration_branch(self.number)}"

    @property
    def base(self) -> str:
        """Where the integration branch started: positions are counted from here."""
        return f"refs/agog/{self.number}/base"

    @property
    def target(self) -> str:
        """The name of the branch to deliver to, in a blob; empty for a fix."""
        return f"refs/agog/{self.number}/target"

    @property
    def seen(self) -> str:
        """The target's commit that the work stands on: the base, or what was merged in since."""
        return f"refs/agog/{self.number}/seen"

    @property
    def sealed(self) -> str:
        """The merge commit that a delivery has made, or was about to, of the whole work."""
        return f"refs/agog/{self.number}/sealed"

    @property
    def published(self) -> str:
        """The commit at which a delivery has made a branch in the user's repository."""
        return f"refs/agog/{self.number}/published"

    def stage(self, key: str) -> str:
        """The result of an attempt."""
        return f"{self.all[0]}{key}"

    def merged(self, key: str) -> str:
        """The integration tip right after the attempt, or the fix of that number, was merged.

        Its merge is not repeated.
        """
        return f"refs/agog/{self.number}/merged/{key}"

    def outcome(self, key: str) -> str:
        """What became of an attempt, as a JSON blob: written before its clone is removed."""
        return f"refs/agog/{self.number}/outcome/{key}"

    def kept(self, key: str) -> str:
        """What an unsuccessful attempt left."""
        return f"refs/agog/{self.number}/kept/{key}"

    def left(self, key: str, name: str) -> str:
        """A commit that an attempt made and did not end on: another branch, a stash."""
        return "/".join(filter(None, (f"refs/agog/{self.number}/left", key, name)))


@dataclass(frozen=True)
class Merge:
    """The new tip, or the old one and the files in conflict."""

    tip: str
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submodule:
    """An entry of a commit's `.gitmodules` that the commit has a pointer for."""

    name: str
    path: str
    commit: str
    moved_from: str = ""
    """Where the base, and so the user, has it, unless that is the path."""


class Store:
    """One bare repository of ours, mirrored from `source` (the user's work tree, or one below)."""

    def __init__(self, path: Path, source: Path, locks: Locks, options: Mapping[str, str]) -> None:
        self.path = path
        self.source = source
        self._locks = locks
        self._options = options

    @classmethod
    def of_project(
        cls, home: Path, project_root: Path, locks: Locks, options: Mapping[str, str]
    ) -> "Store":
        """The store of that project in that state directory."""
        return cls(store_path(home, project_root), project_root, locks, options)

    def module(self, name: str, path: str) -> "Store":
        """The store of the submodule of that name, at that path of the project."""
        place = self.path / "modules" / path_key(Path("/") / name)
        return Store(place, self.source / path, self._locks, self._options)

    @property
    def git(self) -> Git:
        """Our git on it."""
        return Git.ours(self.path, self._options)

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return (self.path / "HEAD").is_file()

    @property
    def is_mirrored(self) -> bool:
        """Whether the user has the repository: what is new in it can be handed over."""
        return self.exists and (self.source / ".git").exists()

    async def refresh(self) -> None:
        """Make it if it is not there, and take over the user's branches and tags as they are.

        Raises: GitFailed.
        """
        async with self._locks.hold(f"store.{path_key(self.path)}"):
            await asyncio.to_thread(self._forget_scratch)
            if not self.exists:
                origin = ("--origin", "origin")
                await self._make("clone", "--bare", *origin, "--", str(self.source))
            await self._fetch(f"+refs/heads/*:{_BRANCHES}*", f"+refs/tags/*:{_TAGS}*", "--prune")
            await self._pack()

    async def refresh_submodules(self, commit: str) -> None:
        """Take over those submodules of the commit that the user has initialised, and theirs."""
        for module in await self.submodules(commit):
            store = self.module(module.name, module.path)
            if (store.source / ".git").exists():
                await store.refresh()
                if await store.git.commit_of(module.commit):
                    await store.refresh_submodules(module.commit)

    async def make_empty(self) -> None:
        """Make it if it is not there: for a submodule that the user has not initialised."""
        async with self._locks.hold(f"store.{path_key(self.path)}"):
            if not self.exists:
                await self._make("init", "--bare", "--initial-branch=none")

    async def fetch_branch(self, branch: str) -> str | None:
        """Take over one branch of the user's repository; its commit, None if it is not there."""
        await self._fetch(f"+refs/heads/{branch}:{_BRANCHES}{branch}")
        return await self.git.commit_of(f"{_BRANCHES}{branch}")

    async def branch(self, name: str) -> str | None:
        """The commit of a branch of the project as it was when it was taken over."""
        return await self.git.commit_of(f"{_BRANCHES}{name}")

    async def commit(self, ref: str) -> str:
        """The commit of a ref of ours. Raises: ProjectRefused if it is gone."""
        commit = await self.git.commit_of(ref)
        if commit is None:
            raise ProjectRefused(f"{ref} is gone from {self.path}.")
        return commit

    async def tree(self, revision: str) -> str:
        """The tree of a commit."""
        return (await self.git.run("rev-parse", f"{revision}^{{tree}}")).line

    async def is_ancestor(self, one: str, other: str) -> bool:
        """Whether `other` holds `one`."""
        return await self.git.succeeds("merge-base", "--is-ancestor", one, other)

    async def packed_refs(self) -> str:
        """The project's branches and tags under their own names, as a file of packed refs."""
        listed = await self.git.run(
            "for-each-ref", "--format=%(objectname) %(refname)", _BRANCHES, _TAGS
        )
        # Not `splitlines`: a ref name may hold what Unicode calls the end of a line.
        refs = filter(None, listed.text.split("\n"))
        lines = [line.replace(PROJECT_REFS, "refs/", 1) for line in refs]
        ours = " refs/heads/agog/"
        return "".join(f"{line}\n" for line in lines if ours not in line)

    async def submodules(self, commit: str) -> tuple[Submodule, ...]:
        """The commit's declared submodules; a pointer without a declaration is left out."""
        listed = await self.git.run(
            "config", "--blob", f"{commit}:.gitmodules", "-z", "--get-regexp",
            r"^submodule\..*\.path$", accept=(0, 1, 128),
        )  # fmt: skip
        declared = {}
        for entry in listed.fields:
            key, _, path = entry.partition("\n")
            if _is_inside(path):  # git refuses to be asked about any other
                declared[path] = key.removeprefix("submodule.").removesuffix(".path")
        if not declared:
            return ()
        entries = await self.git.run("ls-tree", "-z", "--full-tree", commit, "--", *declared)
        found = (line.partition("\t") for line in entries.fields)
        return tuple(
            Submodule(declared[path], path, meta.split(" ")[2])
            for meta, _, path in found
            if meta.startswith(f"{GITLINK} ") and path in declared
        )

    async def undeclared(self, before: str, commit: str) -> tuple[str, ...]:
        """Paths of new pointers of a commit, or tree, that its `.gitmodules` does not declare."""
        changed = await changes_between(self.git, before, commit)
        pointers = [each.path for each in changed if each.is_pointer]
        declared = {each.path for each in await self.submodules(commit)} if pointers else set()
        return tuple(path for path in pointers if path not in declared)

    async def write_blob(self, text: str) -> str:
        """Store a text; the name of its blob."""
        return (await self.git.run("hash-object", "-w", "--stdin", stdin=text)).line

    async def read_blob(self, ref: str) -> str | None:
        """The text of the blob that a ref of ours stands for, if there is one."""
        read = await self.git.run("cat-file", "blob", ref, accept=(0, 128))
        return read.text if read.code == 0 else None

    async def merge(self, ours: str, theirs: str, message: str, attributes_of: str | None) -> Merge:
        """Merge `theirs` into `ours`: nothing, a fast-forward or a merge commit, what suffices.

        Attributes (`merge=union`) are those of the commit `attributes_of`, no agent's; with None
        there are none.
        A conflict leaves nothing behind, because nothing was checked out.
        """
        common = await self.git.run("merge-base", ours, theirs, accept=(0, 1))
        if common.line in (ours, theirs):  # one holds the other
            return Merge(ours if common.line == theirs else theirs)
        async with self._attributes(attributes_of) as git:
            merged = await git.run(
                "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs,
                accept=(0, 1),
            )  # fmt: skip
        tree, *names = merged.fields
        if merged.code:
            # The exit code decides; git-merge-tree(1) warns that the list may be empty.
            conflicts = tuple(dict.fromkeys(printable(name) for name in names))
            return Merge(ours, conflicts or (UNNAMED_CONFLICT,))
        return Merge(await self.commit_tree(tree, (ours, theirs), message))

    async def commit_tree(self, tree: str, parents: Sequence[str], message: str) -> str:
        """A new commit with the files of a tree, or of another commit; no ref stands for it."""
        options = (part for parent in parents for part in ("-p", parent))
        made = await self.git.run(
            "commit-tree", f"{tree}^{{tree}}", *options, "-F", "-", stdin=message
        )
        return made.line

    async def parents(self, commit: str) -> tuple[str, ...]:
        """The parents of a commit."""
        listed = await self.git.run("rev-list", "--parents", "--max-count=1", commit)
        return tuple(listed.line.split(" ")[1:])

    async def move_refs(self, guarded: str, old: str | None, new: Mapping[str, str]) -> bool:
        """Move all refs or none; False if `guarded` no longer stands at `old` (None: not there)."""
        expected = old or "0" * len(new[guarded])
        commands = "".join(
            f"update {ref}\0{commit}\0{expected if ref == guarded else ''}\0"
            for ref, commit in new.items()
        )
        moved = await self.git.run("update-ref", "-z", "--stdin", stdin=commands, accept=(0, 128))
        if moved.code == 0:
            return True
        if await self.git.commit_of(guarded) != old:
            return False
        raise GitFailed(f"git update-ref in {self.path}: {moved.error.strip()}")

    @asynccontextmanager
    async def _attributes(self, commit: str | None) -> AsyncIterator[Git]:
        """Git in a directory that holds just the attribute files of that commit.

        `git merge-tree` reads attributes from files alone, and from none in a bare repository.
        """
        with TemporaryDirectory(prefix="merge-", dir=self.path) as scratch:
            place, index = Path(scratch, "files"), Path(scratch, "index")
            await asyncio.to_thread(place.mkdir)
            git = self.git.on(place, index)
            if commit:
                listed = await git.run("ls-tree", "-r", "-z", "--name-only", commit)
                names = [n for n in listed.fields if f"/{n}".endswith(f"/{ATTRIBUTES}")]
                if names:
                    await git.run("read-tree", commit)
                    await git.run("checkout-index", "-z", "--stdin", stdin="\0".join(names))
            yield git

    async def _pack(self) -> None:
        """Put loose objects, small packs and refs together when they are many.

        No object is dropped: a clone may borrow it.
        """
        counted = await self.git.run("count-objects", "-v")
        counts = dict(line.split(": ", 1) for line in counted.text.splitlines())
        if int(counts["count"]) < MOST_LOOSE and int(counts["packs"]) < MOST_PACKS:
            return
        for command in (("repack", "--geometric=2", "-d", "--quiet"), ("pack-refs", "--all")):
            packed = await self.git.run(*command, accept=(0, 1, 128))
            if packed.code:
                log.warning("%s stays unpacked, and slow: %s", self.path, packed.error.strip())

    def _forget_scratch(self) -> None:
        """Remove what a killed worker has left of a take-over or a merge."""
        for pattern in ("take-*", "merge-*"):
            for path in self.path.glob(pattern):
                if time.time() - path.stat().st_mtime > _SCRATCH_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    async def _make(self, *command: str) -> None:
        """Make the repository beside its place, then put it there: half of one is never seen."""
        draft = self.path.with_name(f"{self.path.name}.new")
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        await asyncio.to_thread(self.path.parent.mkdir, parents=True, exist_ok=True)
        verb, *arguments = command
        await Git(self.path.parent).run(verb, "--quiet", "--template=", *arguments, str(draft))
        await asyncio.to_thread(_forget_origin, draft)
        git = Git.ours(draft)
        await git.run("config", "--remove-section", "remote.origin", accept=(0, 128))
        for name, value in _CONFIGURATION.items():
            await git.run("config", name, value)
        await git.run("symbolic-ref", "HEAD", "refs/heads/none")
        await asyncio.to_thread(draft.rename, self.path)

    async def _fetch(self, *refspecs: str, accept: tuple[int, ...] = (0,)) -> None:
        options = [one for one in refspecs if one.startswith("--")]
        refs = [one for one in refspecs if not one.startswith("--")]
        await self.git.with_users_settings().run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--update-shallow", "--upload-pack", _UPLOAD_PACK, *options, str(self.source), *refs,
            accept=accept,
        )  # fmt: skip


_UPLOAD_PACK = (
    "git -c transfer.hideRefs='!refs/heads' -c transfer.hideRefs='!refs/tags' upload-pack"
)
"""What the user hides from others is not hidden from us."""


def _is_inside(path: str) -> bool:
    """Whether an entry of a tree can have that name, whatever its author has declared."""
    return {"", ".", ".."}.isdisjoint(path.split("/"))


def taken(commit: str) -> str:
    """The ref that keeps a commit which an agent has left in a submodule."""
    return f"refs/agog/taken/{commit}"


def published(commit: str) -> str:
    """The ref that says of such a commit that others can fetch it from the submodule's remote."""
    return f"refs/agog/published/{commit}"


def store_path(home: Path, project_root: Path) -> Path:
    """Where the store of that project lies, made or not."""
    return home / STORES / f"{path_key(project_root.resolve())}.git"


def _forget_origin(git_dir: Path) -> None:
    """Remove the refs that a clone has brought along: they come again under names of their own."""
    (git_dir / "packed-refs").unlink(missing_ok=True)
    for refs in ("heads", "tags", "remotes"):
        shutil.rmtree(git_dir / "refs" / refs, ignore_errors=True)
        os.makedirs(git_dir / "refs" / refs, exist_ok=True)
