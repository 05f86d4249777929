"""Where else an agent has worked: the refs, stashes and index of its clone.

A clone's own settings are never read. A git directory of ours shows its refs and objects, and what
the files do not show is found there.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.git.agent_files import GIT_DIR, is_plain, open_folder, pointed_at
from adapters.git.clone import Clone
from adapters.git.command import Git, GitOutput
from adapters.git.store import PROJECT_REFS

MOST_TIPS = 200
"""Commits elsewhere that are kept of one clone, the newest first."""

MOST_REFUSED = 20
"""Files that are looked for one by one; what may be refused beyond is taken as it lies there."""
_DEAD = 128
"""The exit code of a git that has given up."""

_REWRITES = ("commit (amend)", "rebase")
_HEAD = re.compile(rb"ref: refs/\S+\n?|[0-9a-f]{40}(?:[0-9a-f]{24})?\n?")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Tracked:
    """Paths in a clone's own index, those kept off the disk, and versions of unmerged ones.

    `staged`: mode and object of hidden ones that differ from HEAD; the store has the object unless
    they are `unread`. `executable`: objects of files that it calls so.
    """

    paths: tuple[str, ...] = ()
    blobs: Mapping[str, str] = field(default_factory=dict)
    executable: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    staged: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    unmerged: Mapping[str, set[str]] = field(default_factory=dict)


class CloneView:
    """The clone's refs and objects, read with our configuration instead of the clone's."""

    def __init__(self, clone: Clone, path: Path, git_dir: Path | None) -> None:
        """Take the clone, our place for the view, and the clone's git directory; use `open`."""
        self._clone = clone
        self._path = path
        self._theirs = git_dir
        self._git = Git.ours(path)
        self.head = ""
        """The commit that HEAD stands at, once the tips were read."""
        self.merges: list[tuple[str, ...]] = []
        """Commits that the agent has merged with each other, once the parents were read."""
        self.remarks: list[str] = []
        if git_dir is None:
            self.remarks.append(
                "Its .git was removed or replaced: commits in it could not be looked at."
            )

    @classmethod
    async def open(cls, clone: Clone, path: Path) -> "CloneView":
        """A git directory at `path` that shows the clone's refs and objects."""
        git_dir = await asyncio.to_thread(_git_dir_of, clone)
        view = cls(clone, path, git_dir)
        if git_dir is not None:
            await asyncio.to_thread(view._link, git_dir)
        return view

    def _link(self, theirs: Path) -> None:
        store = self._clone.store.path
        (self._path / "objects" / "info").mkdir(parents=True)
        (self._path / "objects" / "info" / "alternates").write_bytes(
            bytes(theirs / "objects") + b"\n" + bytes(store / "objects") + b"\n"
        )
        if (theirs / "refs").is_dir():
            (self._path / "refs").symlink_to(theirs / "refs")
        else:
            (self._path / "refs").mkdir()
        if (theirs / "worktrees").is_dir():
            (self._path / "worktrees").symlink_to(theirs / "worktrees")
        for name in ("HEAD", "packed-refs", "shallow"):
            if is_plain(theirs / name):
                shutil.copyfile(theirs / name, self._path / name)
        head = self._path / "HEAD"
        if not _HEAD.fullmatch(head.read_bytes() if head.exists() else b""):
            head.write_text("ref: refs/heads/none\n")  # without one there is no repository
            self.remarks.append("Its HEAD cannot be read: it names neither a branch nor a commit.")
        shutil.copyfile(store / "config", self._path / "config")

    async def tips(self) -> Mapping[str, str]:
        """Commits that the clone's refs, stashes and history of HEAD name and no ref of ours holds.

        They are in the store afterwards, by a name for each. Asked again after a crash, when they
        are there but have no ref yet, it answers the same.
        """
        if self._theirs is None:
            return {}
        store = self._clone.store.git
        named = await self._named(self._theirs)
        there = set(named)
        if missing := await self._missing(named):
            await self._take(missing)
            there -= set(await self._missing(missing))
        listed = await store.run(
            "rev-list", "--ignore-missing", "--stdin",
            "--not", f"--glob={PROJECT_REFS}*", "--glob=refs/heads/*",
            stdin="".join(f"{commit}\n" for commit in there),
        )  # fmt: skip
        new = set(listed.text.split())
        left = {name: commit for commit, name in named.items() if commit in new}
        if len(left) > MOST_TIPS:
            self.remarks.append(f"{len(left) - MOST_TIPS} more commits elsewhere are not kept.")
        return dict(list(left.items())[:MOST_TIPS])

    async def _missing(self, named: Mapping[str, str]) -> dict[str, str]:
        """Those that the store does not have."""
        asked = "".join(f"{commit}\n" for commit in named)
        known = await self._clone.store.git.run("cat-file", "--batch-check", stdin=asked)
        lines = known.text.split("\n")
        return {c: n for (c, n), said in zip(named.items(), lines, strict=False)
                if said.endswith(" missing")}  # fmt: skip

    async def _named(self, theirs: Path) -> dict[str, str]:
        """Every commit that has a name in the clone, HEAD first."""
        found: dict[str, str] = {}
        head = await self._git.commit_of("HEAD")
        if head:
            self.head = head
            found[head] = "HEAD"
        for name, place in await asyncio.to_thread(_worktrees_of, theirs):
            if not self._goes_with_clone(place):
                self.remarks.append(f"Its worktree {place} lies outside and was not looked at.")
            if commit := await self._git.commit_of(f"worktrees/{name}/HEAD"):
                found.setdefault(commit, f"worktree-{name}")
        listed = await self._git.run(
            "for-each-ref", "--format=%(objectname) %(objecttype) %(*objectname) %(refname)",
            accept=(0, 128),
        )  # fmt: skip
        # Not `splitlines`: a ref name may hold what Unicode calls the end of a line.
        for line in filter(None, listed.text.split("\n")):
            name, kind, tagged, ref = line.split(" ", 3)
            if kind in ("commit", "tag"):
                found.setdefault(tagged or name, ref.removeprefix("refs/"))
        for log, label in (("logs/refs/stash", "stash"), ("logs/HEAD", "history")):
            hashes = await asyncio.to_thread(_hashes_in, theirs / log)
            for n, commit in enumerate(hashes):
                found.setdefault(commit, f"{label}-{n}")
        return found

    async def _take(self, new: Mapping[str, str]) -> None:
        """Fetch them, together or, where one is damaged, one by one."""
        if not new or (await self._fetch(*new)).code == 0:
            return
        for commit, name in list(new.items())[:MOST_TIPS]:
            fetched = await self._fetch(commit)
            if fetched.code and commit == self.head:
                self.remarks.append(f"Its HEAD cannot be read: {fetched.error.strip()[-500:]}")
            elif fetched.code:
                self.remarks.append(f"{name} ({commit[:10]}) cannot be read.")

    async def _fetch(self, *commits: str) -> GitOutput:
        return await self._clone.store.git.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--update-shallow", "--stdin", str(self._path), accept=(0, 1, 128),
            stdin="".join(f"{commit}\n" for commit in commits),
        )  # fmt: skip

    async def is_published(self, commit: str, root: Path) -> bool:
        """Whether the commit came from a remote of the clone, so that others can fetch it.

        What lies in `root`, the clone that holds this one, is gone with it: no such remote counts.
        """
        if self._theirs is None:
            return False
        listed = await self._git.run(
            "config", "--file", str(self._theirs / "config"), "-z", "--get-regexp",
            r"^remote\..*\.url$", accept=(0, 1, 128),
        )  # fmt: skip
        places = (url.partition("\n")[2].removeprefix("file://") for url in listed.fields)
        if any((self._clone.path / place).resolve().is_relative_to(root) for place in places):
            return False
        found = await self._git.run(
            "for-each-ref", "--count=1", "--contains", commit, "refs/remotes", accept=(0, 128, 129)
        )
        return found.code == 0 and bool(found.text)

    async def worktrees(self, base: str, scratch: Path) -> Mapping[str, str]:
        """Worktrees that the agent has added there and that hold what is not committed."""
        found: dict[str, str] = {}
        store = self._clone.store
        for name, place in await asyncio.to_thread(_worktrees_of, self._theirs):
            if not self._goes_with_clone(place):
                continue
            head = await self._git.commit_of(f"worktrees/{name}/HEAD")
            parent = head if head and await store.git.commit_of(head) else base
            git = store.git.on(place, scratch / f"worktree-{len(found)}")
            await git.run("read-tree", parent)
            for refused in (await add_everything(git)).refused:
                self.remarks.append(f"In the worktree {name} git cannot take {refused}.")
            tree = (await git.run("write-tree")).line
            if tree != await store.tree(parent):
                message = f"Left in the worktree {name}\n"
                made = await git.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=message)
                found[f"worktrees/{name}"] = made.line
        return found

    def _goes_with_clone(self, place: Path) -> bool:
        """Whether a worktree lies in the clone, or beside it, where all goes with the requirement.

        Beside it lie other agents' clones, which are none.
        """
        if not place.is_relative_to(self._clone.path.parent):
            return False
        open_folder(place)
        return is_plain(place / GIT_DIR) or place.is_relative_to(self._clone.path)

    async def head_of(self, base: str) -> str:
        """HEAD wherever the agent left it; unrelated or unreadable, `base`."""
        if self.head == base:
            return base
        store = self._clone.store
        known = self.head and await store.git.commit_of(self.head)
        if known and await store.git.succeeds("merge-base", self.head, base):
            return self.head
        return base

    async def is_rewritten(self, base: str, tree: str) -> bool:
        """Whether the files descend from the base though HEAD does not: amended, squashed, rebased.

        Merged from HEAD, what both sides share would count as the agent's change. Whoever has
        checked an older commit out works on that one; a reset says nothing, so the lines decide.
        """
        store = self._clone.store
        if await store.is_ancestor(base, self.head):
            return False
        how = await self._left_by(base)
        if how.startswith(_REWRITES):
            return True
        if how.startswith("checkout:"):
            return False
        common = (await store.git.run("merge-base", base, self.head)).line
        return await _distance(store.git, base, tree) <= await _distance(store.git, common, tree)

    async def _left_by(self, base: str) -> str:
        """What HEAD's history says of the step from where the base was to where it is not."""
        store = self._clone.store
        for old, message in await asyncio.to_thread(_steps_in, self._theirs):
            known = await store.git.commit_of(old)
            if known and await store.is_ancestor(base, old):
                return message
        return ""

    async def parents(self, base: str, head: str) -> tuple[str, ...]:
        """Commits of the project that the result was made of: the base, and what was merged.

        What agents have left is none: its conflict may be the one that is to be resolved.
        """
        git, known = self._clone.store.git, ("--not", base, f"--glob={PROJECT_REFS}*")
        found = [base]
        if head != base:
            listed = await git.run("rev-list", "--parents", head, *known)
            rows = [line.split(" ") for line in listed.text.splitlines()]
            made = {commit for commit, *_ in rows}
            merges = {commit: parents for commit, *parents in rows if len(parents) > 1}
            self.merges = [tuple(each) for each in merges.values()]
            found += [p for _, *parents in rows for p in parents if p not in made]
        if self._theirs is not None:  # a merge that is not finished counts as well
            for commit in await asyncio.to_thread(_hashes_in, self._theirs / "MERGE_HEAD"):
                ahead = await git.run("rev-list", "-n1", commit, *known, accept=(0, 128))
                if ahead.code == 0:
                    self.merges.append((head, commit))
                if ahead.code == 0 and not ahead.text:
                    found.append(commit)
        return tuple(dict.fromkeys(found))

    async def tracked(self) -> Tracked:
        """What the clone's own index says."""
        if self._theirs is None or not is_plain(self._theirs / "index"):
            return Tracked()
        await asyncio.to_thread(self._copy_index, self._theirs)
        git = self._with_index("index")
        listed = await git.run("ls-files", "-t", "--stage", "-z", accept=(0, 128))
        entries = [(*meta.split(" "), path) for meta, _, path in map(_cut, listed.fields)]
        sides: dict[str, set[str]] = {}
        for _, _, blob, stage, path in entries:
            if stage != "0":
                sides.setdefault(path, set()).add(blob)
        hidden = {path: f"{mode} {blob}" for tag, mode, blob, _, path in entries if tag == "S"}
        paths = tuple(dict.fromkeys(path for *_, path in entries))
        executable = {path: blob for _, mode, blob, _, path in entries if mode == "100755"}
        staged = await self._staged(hidden) if hidden else {}
        unread = () if await self._take_staged(staged) else tuple(staged)
        blobs = {path: blob for _, _, blob, _, path in entries}
        return Tracked(paths, blobs, executable, tuple(hidden), staged, unread, sides)

    async def _staged(self, hidden: Mapping[str, str]) -> Mapping[str, str]:
        """Those that differ from HEAD."""
        listed = await self._git.run("ls-tree", "-r", "-z", "--full-tree", "HEAD", accept=(0, 128))
        committed = {path: meta for meta, _, path in map(_cut, listed.fields)}
        return {
            path: meta
            for path, meta in hidden.items()
            if meta.split(" ") != committed.get(path, "").split(" ")[::2]
        }

    async def _take_staged(self, staged: Mapping[str, str]) -> bool:
        """Bring their objects into the store, in a commit; whether they are there."""
        if not staged:
            return True
        git = self._with_index("index-of-hidden")
        lines = "".join(f"{meta}\t{path}\0" for path, meta in staged.items())
        await git.run("read-tree", "--empty")
        await git.run("update-index", "-z", "--index-info", stdin=lines)
        tree = await git.run("write-tree", accept=(0, 128))
        if tree.code:
            return False
        commit = await git.run("commit-tree", tree.line, "-m", "Staged")
        return (await self._fetch(commit.line)).code == 0

    def _copy_index(self, theirs: Path) -> None:
        """Git writes to an index that it reads; a split one has its other half beside it."""
        for name in ("index", *(path.name for path in theirs.glob("sharedindex.*"))):
            if is_plain(theirs / name):
                shutil.copyfile(theirs / name, self._path / name)

    def _with_index(self, name: str) -> Git:
        return Git(self._path, {**self._git.variables, "GIT_INDEX_FILE": str(self._path / name)})


@dataclass(frozen=True)
class Added:
    """What git said when it was to add everything, and files that it refused."""

    said: GitOutput
    refused: tuple[str, ...] = ()


async def add_everything(git: Git) -> Added:
    """Add all files of the work tree. Those that git cannot encode are taken as they lie there.

    One of them ends `git add` before anything is written, so they are looked for by halves.
    """
    said = await git.run("add", "--all", "--ignore-errors", ".", accept=(0, 1, 128))
    if said.code != _DEAD:
        return Added(said)
    listed = await git.run("ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = [name for name in dict.fromkeys(listed.fields) if not name.endswith("/")]
    refused: list[str] = []
    parts, first = [names], said
    while parts:
        part = parts.pop()
        if len(refused) >= MOST_REFUSED:
            refused += part
            continue
        tried = await git.run(
            "--literal-pathspecs", "add", "--all", "--ignore-errors", "--pathspec-from-file=-",
            "--pathspec-file-nul", stdin="\0".join(part), accept=(0, 1, 128),
        )  # fmt: skip
        if tried.code != _DEAD or not part:
            continue
        half = len(part) // 2
        if half:
            parts += [part[half:], part[:half]]
        else:
            refused, first = [*refused, *part], first if refused else tried
    await _add_as_they_lie(git, refused)
    return Added(first, tuple(refused))


async def _add_as_they_lie(git: Git, names: Sequence[str]) -> None:
    there = [name for name in names if is_plain(git.directory / name) and "\n" not in name]
    if not there:
        return
    paths = "".join(f"./{name}\n" for name in there)
    hashed = await git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=paths)
    lines = zip(hashed.text.split(), there, strict=True)
    entries = "".join(f"100644 {blob}\t{name}\0" for blob, name in lines)
    await git.run("update-index", "-z", "--index-info", stdin=entries)


def _cut(entry: str) -> tuple[str, str, str]:
    return entry.partition("\t")


async def _distance(git: Git, one: str, other: str) -> int:
    """Lines that differ; a binary file counts as one."""
    listed = await git.run("diff-tree", "-r", "--numstat", "--no-renames", "-z", one, other)
    counts = [count for entry in listed.fields for count in entry.split("\t")[:2]]
    return sum(int(count) if count.isdecimal() else 1 for count in counts)


def _git_dir_of(clone: Clone) -> Path | None:
    """The clone's git directory: its own, or for a submodule one that a repository above keeps."""
    place = clone.git_dir
    if pointed := pointed_at(place):
        place = pointed
        keepers = (above.resolve() / ".git" / "modules" for above in clone.path.parents)
        if not any(place.is_relative_to(keeper) for keeper in keepers):
            return None
    is_own = not place.is_symlink() and (place / "objects").is_dir()
    return place if is_own else None


def _worktrees_of(git_dir: Path | None) -> list[tuple[str, Path]]:
    """Name and directory of the worktrees that are registered there and still exist."""
    if git_dir is None:
        return []
    entries = sorted((git_dir / "worktrees").glob("*/gitdir"))
    named = ((entry.parent.name, entry.read_text(errors="surrogateescape")) for entry in entries)
    places = ((name, (git_dir / "worktrees" / name / text.strip()).parent) for name, text in named)
    found = ((name, Path(os.path.normpath(place))) for name, place in places)
    return [(name, place) for name, place in found if place.is_dir()]


def _hashes_in(log: Path) -> list[str]:
    """New values in a reflog, or the lines of a file of hashes; the newest first."""
    if not is_plain(log):
        return []
    lines = log.read_text("utf-8", "replace").splitlines()[-MOST_TIPS:]
    words = [line.split(" ")[1] if "\t" in line or line.count(" ") > 1 else line for line in lines]
    hashes = [word for word in reversed(words) if _HASH.fullmatch(word) and word.strip("0")]
    return list(dict.fromkeys(hashes))


def _steps_in(git_dir: Path | None) -> list[tuple[str, str]]:
    """Where each step of HEAD began and what git calls it; the newest first."""
    log = git_dir / "logs" / "HEAD" if git_dir else None
    if log is None or not is_plain(log):
        return []
    lines = log.read_text("utf-8", "replace").splitlines()[-MOST_TIPS:]
    steps = (line.partition("\t") for line in reversed(lines))
    return [(who.split(" ")[0], said) for who, _, said in steps if _HASH.match(who)]
