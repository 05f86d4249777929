"""What an agent has left in its clone, taken into the store: its files, and where else it worked.

The files are taken by the store's git with an index of ours: no setting, hook, filter, exclude list
or sparse pattern of the clone has a say. The clone's own refs are read through a view with our
configuration, and only to find commits that the files do not show.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from adapters.git.agent_files import (
    GIT_DIR,
    is_plain,
    is_repository,
    make_readable,
    open_folder,
    pointed_at,
)
from adapters.git.clone import Clone
from adapters.git.command import Git, GitOutput
from adapters.git.diff import GITLINK, SYMLINK, changes_between, changes_of_index
from adapters.git.prepared_files import Prepared, left_as_prepared, read_prepared
from adapters.git.review import PRESENT, Forbidden, Review, named, undeclared
from adapters.git.store import Store, Submodule, published, taken
from adapters.git.view import MOST_REFUSED, CloneView, Tracked, add_everything
from pipeline.errors import GitFailed, printable

_MOST_SHOWN = 200
"""Characters of a path that is too long to be shown."""
_UNREAD = re.compile(r"^warning: could not open directory '(.*)': (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Takeover:
    """The commit that holds everything that was left, and what speaks against it.

    `refusal` says why it must not be merged; `unresolved` files carry conflict markers. `left` are
    commits elsewhere in the clone by the name of their place, already in the store; those `below`
    lie in submodules, whose stores keep them.
    """

    commit: str
    changed: bool
    refusal: str = ""
    unresolved: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    below: tuple[str, ...] = ()


@dataclass
class _Findings:
    refusals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    """Commits of repositories inside, by name."""
    below: list[str] = field(default_factory=list)

    def refuse(self, why: str) -> None:
        if why:
            self.refusals.append(why)


async def take_over(
    clone: Clone, base: str, message: str, forbidden: Forbidden | None = None
) -> Takeover:
    """Commit what the clone holds, ignore files respected, where its HEAD stands or on `base`.

    Where nothing is uncommitted the result is HEAD itself. Nothing of the clone is changed, but
    that what is closed or a pipe may not stand in the way.
    Each git takes milliseconds and there are many: what is known already is not asked again.

    Raises: GitFailed for what the host, not the agent, is to blame for.
    """
    store = clone.store
    no_files, too_deep = await asyncio.to_thread(make_readable, clone.path)
    with TemporaryDirectory(prefix="take-", dir=store.path) as scratch:
        view = await CloneView.open(clone, Path(scratch, "view"))
        view.remarks += [f"Left out, since it is no file: {name}" for name in no_files]
        tips = await view.tips()
        parent = await view.head_of(base)
        findings = _Findings(remarks=view.remarks)  # the view adds to them until the end
        if too_deep:  # of which git itself says nothing that can be read
            places = named([f"{printable(place[:_MOST_SHOWN])}…" for place in too_deep])
            findings.refuse(f"No path leads to folders that are nested so deeply: {places}")
        files = _Files(clone, Path(scratch), findings)
        tree = await files.tree(base, parent, await view.tracked())
        # What the base had is not this agent's.
        changed = await changes_between(store.git, base, tree, PRESENT)
        review = files.review
        findings.refuse(await review.links_out(changed))
        if any(each.is_pointer for each in changed):
            findings.refuse(undeclared(await store.undeclared(base, tree)))
        if forbidden:
            findings.refuse(await review.filters(changed, forbidden))
        parents = await view.parents(base, parent)
        conflicts = await review.unresolved(tree, changed, parents, view.merges)
        unresolved = tuple(dict.fromkeys((*files.untouched, *conflicts)))
        await files.note_ignored()
        tips = {**tips, **await view.worktrees(base, Path(scratch)), **findings.left}
        is_rewritten = parent != base and await view.is_rewritten(base, tree)
        start = base if is_rewritten else parent
    commit = start
    is_new = tree != await store.tree(start)
    if is_new:
        commit = await store.commit_tree(tree, (start,), message)
    # What is told of it travels as text: an agent's names and git's words need not be any.
    left = {
        printable(name): tip
        for name, tip in tips.items()
        if tip not in (base, start) and not await store.is_ancestor(tip, commit)
    }
    has_merged = len(parents) > 1  # "ours" may resolve a conflict
    return Takeover(
        commit,
        is_new if start == base else has_merged or await _has_changed(store, base, commit),
        printable("\n".join(findings.refusals)),
        unresolved,
        tuple(map(printable, findings.remarks)),
        left,
        tuple(map(printable, findings.below)),
    )


async def _has_changed(store: Store, base: str, commit: str) -> bool:
    """Whether files differ from where the work began."""
    if await store.is_ancestor(commit, base):
        return False
    found = await store.git.run("merge-base", base, commit, accept=(0, 1))
    return await store.tree(found.line or base) != await store.tree(commit)


class _Files:
    """Builds the tree of a clone's files in index files of our own, one for each repository."""

    def __init__(self, clone: Clone, scratch: Path, findings: _Findings) -> None:
        self._clone = clone
        self._scratch = scratch
        self._findings = findings
        self._indexes = 0
        self._prepared = Prepared()
        self._git = clone.git
        self.review = Review(clone.git, {})
        self.untouched: tuple[str, ...] = ()

    async def tree(self, base: str, parent: str, tracked: Tracked) -> str:
        """The tree of everything that lies there and is not ignored.

        What the agent's own index tracks is taken although it is ignored (`git add --force`).
        """
        store, index = self._clone.store, self._new_index()
        prepared = await asyncio.to_thread(read_prepared, self._clone.private)
        self._prepared = prepared or Prepared()
        self._git = git = self._prepared.leave_out(store.git.on(self._clone.path, index))
        if self._clone.index.exists():
            # The copy knows which files are unchanged; its time must stay: git compares with it.
            shutil.copy2(self._clone.index, index)
        else:
            await git.run("read-tree", base)
        modules = await self._declared(base)
        await self._drop_replaced(git, modules, tracked)
        nested = await self._add(git)
        await self._restore_hidden(git, parent, tracked)
        entries = await _entries(git)
        await self._restore_untouched(git, base, parent, entries, tracked)
        await self._force(git, [path for path in tracked.paths if path not in entries])
        await self._untrack(git, entries, tracked)
        await self._drop_prepared(git, entries, tracked)
        await self._force(git, await self._added_to_large())
        await self._make_executable(git, base, entries, tracked)
        symlinks = {p: m.split(" ")[1] for p, m in entries.items() if m.startswith(SYMLINK)}
        self.review = Review(git, symlinks)
        # What nobody has touched since git stopped there is not resolved: `binary` has no markers.
        self.untouched = tuple(
            printable(path) for path, sides in tracked.unmerged.items()
            if path in entries and entries[path].split(" ")[1] in sides
        )  # fmt: skip
        links = _gitlinks(entries)
        committed = await _gitlinks_of(git, parent) if links else {}
        for path in dict.fromkeys((*links, *nested)):
            place = self._clone.path / path
            is_nested = await asyncio.to_thread(is_repository, place)
            if path in modules and path in links:
                pointers = (links[path], committed.get(path, ""))
                await self._take_submodule(git, modules[path], *pointers)
            elif is_nested:
                await self._flatten(git, path)
            elif path in links and await asyncio.to_thread(_has_entries, place):
                await self._flatten(git, path)
                self._findings.refusals.append(
                    f"{path} is the commit of another repository, which .gitmodules does not "
                    "declare: what lies in it cannot be committed. It is kept as files."
                )
        return (await git.run("write-tree")).line

    async def _declared(self, base: str) -> dict[str, Submodule]:
        """Submodules by path: of the base, and those that the agent has declared since."""
        modules = {module.path: module for module in await self._clone.store.submodules(base)}
        by_name = {module.name: module for module in modules.values()}
        file = self._clone.path / ".gitmodules"
        if not is_plain(file):
            return modules
        listed = await self._clone.store.git.run(
            "config", "--file", str(file), "-z", "--get-regexp", r"^submodule\..*\.path$",
            accept=(0, 1, 128),
        )  # fmt: skip
        for entry in listed.fields:
            key, _, path = entry.partition("\n")
            name = key.removeprefix("submodule.").removesuffix(".path")
            known = modules.get(path) or by_name.get(name)  # or it was moved
            moved_from = known.path if known and known.path != path else ""
            modules[path] = Submodule(name, path, known.commit if known else "", moved_from)
        return modules

    async def _drop_replaced(self, git: Git, modules: Iterable[str], tracked: Tracked) -> None:
        """Forget submodules in whose place the agent has committed files."""
        known = set(tracked.paths)
        for path in modules if known else ():
            if path not in known and any(each.startswith(f"{path}/") for each in known):
                await git.run("update-index", "--force-remove", "--", path)

    async def _add(self, git: Git) -> tuple[str, ...]:
        """Add all files; returns repositories inside that git cannot add as such."""
        everything = await add_everything(git)
        added = everything.said
        left = (await git.run("ls-files", "--others", "--exclude-standard", "-z")).fields
        nested = tuple(name.rstrip("/") for name in left if name.endswith("/"))
        refused = [*everything.refused, *(name for name in left if not name.endswith("/"))]
        lost = [printable(name) for name in dict.fromkeys(refused)]
        unread = [f"{name.rstrip('/')}/ ({why})" for name, why in _UNREAD.findall(added.error)]
        if lost or unread or (added.code and not nested):
            said = [line for line in added.error.splitlines() if not line.startswith("hint:")]
            self._findings.refusals.append(
                f"Git cannot take {named([*lost, *unread]) or 'its files'}: "
                + "\n".join(said).strip()[-2000:]
            )
        return nested

    async def _force(self, git: Git, paths: Sequence[str]) -> None:
        """Add files that are ignored all the same."""
        names = await asyncio.to_thread(_files_among, git.directory, paths)
        if names:
            said = await self._add_ignored(git, names)
            # It stops at the first that it cannot take: the others are taken one by one.
            for name in names[:MOST_REFUSED] if said.code and len(names) > 1 else ():
                await self._add_ignored(git, [name])
            if said.code:
                self._findings.refusals.append(
                    f"Git cannot take {named([*map(printable, names)])}: {said.error.strip()}"
                )

    async def _add_ignored(self, git: Git, names: Sequence[str]) -> GitOutput:
        listed = "".join(f"{name}\0" for name in names)
        return await git.run(
            "update-index", "--add", "-z", "--stdin", stdin=listed, accept=(0, 128)
        )

    async def _untrack(self, git: Git, entries: dict[str, str], tracked: Tracked) -> None:
        """Leave out what the agent has taken out of its index and ignores (`git rm --cached`)."""
        known = set(tracked.paths)
        gone = [path for path in entries if path not in known] if known else []
        if not gone:
            return
        listed = "".join(f"{path}\0" for path in gone)
        ignored = await git.run(
            "check-ignore", "--no-index", "-z", "--stdin", stdin=listed, accept=(0, 1)
        )
        if names := ignored.fields:
            listed = "".join(f"{name}\0" for name in names)
            await git.run("update-index", "--force-remove", "-z", "--stdin", stdin=listed)
            for name in names:
                del entries[name]

    async def _added_to_large(self) -> list[str]:
        """What is newer than `prepare` in the large folders that it made."""
        large = self._prepared.large
        if not large:
            return []
        git = self._clone.git  # which does not leave them out
        listed = await git.run(
            "--literal-pathspecs", "ls-files", "--others", "--exclude-standard", "-z", "--", *large
        )
        packages = tuple(f"{each}/" for each in self._prepared.folders)
        names = [n for n in listed.fields if not n.endswith("/") and not n.startswith(packages)]
        return await asyncio.to_thread(
            lambda: list(self._prepared.written_later(self._clone.path, names))
        )

    async def _drop_prepared(self, git: Git, entries: dict[str, str], tracked: Tracked) -> None:
        """Leave out what `prepare` has written and the agent has not changed."""
        files = left_as_prepared(self._prepared, entries, frozenset(tracked.paths))
        if not files:
            return
        for each in files:
            entries.pop(each.path, None)
        # What the agent has put in the place of a file or a folder stays.
        folders = {str(above) for path in entries for above in PurePosixPath(path).parents}
        back = [
            each
            for each in files
            if not each.is_new
            and each.path not in folders
            and not any(str(above) in entries for above in PurePosixPath(each.path).parents)
        ]
        # A mode of zeros removes the path from the index: first all that is in the way.
        lines = [f"0 {'0' * len(each.blob)}\t{each.path}\0" for each in files]
        lines += [f"{each.old_mode} {each.old_blob}\t{each.path}\0" for each in back]
        await git.run("update-index", "-z", "--index-info", stdin="".join(lines))
        entries |= {each.path: f"{each.old_mode} {each.old_blob} 0" for each in back}

    async def _restore_untouched(
        self, git: Git, base: str, parent: str, entries: dict[str, str], tracked: Tracked
    ) -> None:
        """Keep what the base has of files that nobody has changed, though attributes would.

        It may hold what they forbid: line ends, or an identifier, from before they were there.
        """
        before = {
            each.path: (each.old_mode, each.old_blob)
            for each in await changes_of_index(git, base, "--diff-filter=M")
            if each.is_file
            and each.mode == each.old_mode
            and "\n" not in each.path
            and tracked.blobs.get(each.path) != each.blob  # what was staged was meant
        }
        if parent != base and before:  # what was committed was meant
            listed = await git.run("diff-tree", "-r", "-z", "--name-only", base, parent)
            before = {path: meta for path, meta in before.items() if path not in listed.fields}
        there = await asyncio.to_thread(_files_among, git.directory, before)
        if not there:
            return
        raw = await git.run(
            "hash-object", "--no-filters", "--stdin-paths", accept=(0, 128),
            stdin="".join(f"./{path}\n" for path in there),
        )  # fmt: skip
        as_they_lie = zip(raw.text.split(), there, strict=False)
        same = [path for blob, path in as_they_lie if blob == before[path][1]]
        rest = [path for path in there if path not in {*same}]
        same += await _expanded(git, {path: before[path][1] for path in rest})
        if same:
            lines = "".join(f"{' '.join(before[path])}\t{path}\0" for path in same)
            await git.run("update-index", "-z", "--index-info", stdin=lines)
            entries |= {path: f"{' '.join(before[path])} 0" for path in same}

    async def _make_executable(
        self, git: Git, base: str, entries: dict[str, str], tracked: Tracked
    ) -> None:
        """Take the mode that the index alone gives a file (`git add --chmod=+x`)."""
        named = [
            path for path, blob in tracked.executable.items()
            if entries.get(path, "").startswith(f"100644 {blob}")
        ]  # fmt: skip
        if not named:
            return
        listed = await git.run("ls-tree", "-r", "-z", "--full-tree", base)
        # What was executable before is no longer: the disk says so, and it is the later word.
        before = {e.partition("\t")[2] for e in listed.fields if e.startswith("100755")}
        lines = "".join(
            f"100755 {tracked.executable[path]}\t{path}\0" for path in named if path not in before
        )
        await git.run("update-index", "-z", "--index-info", stdin=lines)

    async def _restore_hidden(self, git: Git, base: str, tracked: Tracked) -> None:
        """Files outside of the agent's sparse cone were not deleted: they are as in its index."""
        there = await asyncio.to_thread(_files_among, self._clone.path, tracked.hidden)
        gone = set(tracked.hidden) - set(there)
        if not gone:
            return
        listed = await git.run("ls-tree", "-r", "-z", "--full-tree", base)
        entries = {e.partition("\t")[2]: e for e in listed.fields}
        if lost := [printable(path) for path in tracked.unread if path in gone]:
            self._findings.refusals.append(
                f"Git cannot take {named(lost)}: what was staged of it cannot be read."
            )
        else:
            entries |= {path: f"{meta}\t{path}" for path, meta in tracked.staged.items()}
        lines = "".join(f"{entry}\0" for path, entry in entries.items() if path in gone)
        await git.run("update-index", "-z", "--index-info", stdin=lines)

    async def _take_submodule(
        self, git: Git, module: Submodule, commit: str, committed: str
    ) -> None:
        """What lies below a gitlink: taken over like the project, or refused and kept as files."""
        place = self._clone.path / module.path
        await asyncio.to_thread(open_folder, place)
        users = module.moved_from or module.path
        store = self._clone.store.module(module.name, users)
        if not await asyncio.to_thread(_has_entries, place):
            if committed and committed != module.commit:  # moved without having been checked out
                await self._point(git, module.path, committed)
                if not (store.exists and await store.git.commit_of(committed)):
                    self._refuse_pointer(module.path, committed)
        elif not await asyncio.to_thread(is_repository, place):
            await self._flatten(git, module.path)
            self._findings.refusals.append(
                f"{module.path} is a submodule that is not initialised: what lies in it cannot be "
                "committed. It is kept as files. Initialise it in PROJECT_ROOT (git submodule "
                "update --init), or let it be."
            )
        else:
            await self._take_repository(git, module, store, module.commit or commit)

    async def _take_repository(self, git: Git, module: Submodule, store: Store, base: str) -> None:
        """An initialised submodule, which started at `base`."""
        await store.make_empty()
        below = self._clone.below(module.path, store)
        with TemporaryDirectory(prefix="take-", dir=store.path) as scratch:
            view = await CloneView.open(below, Path(scratch, "view"))
            await view.tips()
            known = [each for each in (base, view.head) if each and await store.git.commit_of(each)]
            if not known:
                await self._flatten(git, module.path)
                return self._refuse_pointer(module.path, base)
            found = await take_over(below, known[0], f"Changes in {module.path}\n")
            is_published = not store.is_mirrored and await view.is_published(
                found.commit, self._clone.path
            )
        await _pin(store, found.commit, is_published, found.left.values())
        self._tell(module.path, found)
        if found.commit != module.commit:
            await self._point(git, module.path, found.commit)
            if not (store.is_mirrored or is_published):
                self._refuse_pointer(module.path, found.commit)

    def _tell(self, path: str, found: Takeover) -> None:
        """What was found in a submodule."""
        self._findings.remarks += [f"{path}: {remark}" for remark in found.remarks]
        if found.left or found.below:
            names = [*found.left, *found.below]
            self._findings.below += [f"{path}/{name}" for name in names]
            self._findings.remarks.append(f"{path}: left elsewhere: {named(names)}")
        if found.refusal:
            self._findings.refusals.append(f"{path}: {found.refusal}")
        if found.unresolved:
            self._findings.refusals.append(f"{path}: conflict in {named(found.unresolved)}")

    async def _point(self, git: Git, path: str, commit: str) -> None:
        await git.run("update-index", "--add", "--cacheinfo", f"{GITLINK},{commit},{path}")

    def _refuse_pointer(self, path: str, commit: str) -> None:
        self._findings.refusals.append(
            f"The submodule {path} points to {commit[:10]}, which PROJECT_ROOT cannot reach: its "
            "submodule is not initialised there. Run `git submodule update --init` in PROJECT_ROOT."
        )

    async def _flatten(self, git: Git, name: str) -> None:
        """Take a nested repository's files as files.

        Git would record its commit alone, which nobody has: the agent's work would be lost.
        """
        directory = git.directory / name
        await git.run("update-index", "--force-remove", "--", name)
        if await asyncio.to_thread(self._is_worktree_of_clone, directory):
            return
        await self._keep_commits_of(directory, name)
        inner = self._clone.store.git.on(directory, self._new_index())
        empty = (await inner.run("mktree")).line
        await inner.run("read-tree", "--empty")
        for below in await self._add(inner):
            await self._flatten(inner, below)
        for below in _gitlinks(await _entries(inner)):
            await self._flatten(inner, below)
        tree = (await inner.run("write-tree")).line
        if tree != empty:
            await git.run("read-tree", f"--prefix={name}/", tree)

    async def _keep_commits_of(self, directory: Path, name: str) -> None:
        """The history of a nested repository: its files alone are taken."""
        nested = Clone(directory, self._scratch, self._clone.store)
        view = await CloneView.open(nested, self._scratch / f"view-{self._indexes}-{len(name)}")
        for ref, commit in (await view.tips()).items():
            if ref != "HEAD" and not ref.startswith("history"):
                self._findings.left[f"{name}/{ref}"] = commit

    def _is_worktree_of_clone(self, directory: Path) -> bool:
        """A worktree that the agent has added inside: its commits are in the clone's refs."""
        place = pointed_at(directory / GIT_DIR)
        return place is not None and place.parent == (self._clone.git_dir / "worktrees").resolve()

    def _new_index(self) -> Path:
        self._indexes += 1
        return self._scratch / f"index-{self._indexes}"

    async def note_ignored(self) -> None:
        """Name what is left out: caches of tools, mostly, but for those that `prepare` has made."""
        listed = await self._git.run(
            "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"
        )
        whole = {f"{each}/" for each in (*self._prepared.folders, *self._prepared.large)}
        listed_here = [name for name in listed.fields if name not in whole]
        names, packages = await asyncio.to_thread(self._newer, listed_here)
        if names:
            self._findings.remarks.append(
                f"Left out, since it is ignored: {named([*map(printable, names)])}"
            )
        if packages:
            self._findings.remarks.append(
                f"Left out, since `prepare` fills the folder: {named([*map(printable, packages)])}"
            )

    def _newer(self, ignored: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those that the agent has a part in, and what it has written into folders of packages."""
        prepared, root, known = self._prepared, self._clone.path, {*self._prepared.ignored}
        names = [n for n in ignored if n not in known or any(prepared.written_later(root, [n]))]
        return names, list(prepared.written_later(root, prepared.folders))


async def _entries(git: Git) -> dict[str, str]:
    """What the index says of each path: mode, object and stage."""
    listed = await git.run("ls-files", "--stage", "-z")
    return {path: meta for meta, _, path in (line.partition("\t") for line in listed.fields)}


async def _expanded(git: Git, blobs: Mapping[str, str]) -> list[str]:
    """Files that lie there as git writes those objects where `ident` lets it expand `$Id$`."""
    if not blobs:
        return []
    listed = await git.run("check-attr", "-z", "--stdin", "ident", stdin="\0".join(blobs))
    fields = listed.text.split("\0")
    asked = [p for p, value in zip(fields[::3], fields[2::3], strict=False) if value == "set"]
    found = []
    for path in asked:
        try:
            written = await git.run("cat-file", "--filters", f"--path={path}", blobs[path])
        except GitFailed:  # larger than what we read of a git
            continue
        there = await asyncio.to_thread((git.directory / path).read_bytes)
        if there == written.text.encode("utf-8", "surrogateescape"):
            found.append(path)
    return found


def _gitlinks(entries: Mapping[str, str]) -> dict[str, str]:
    """Paths that are recorded as a bare commit of another repository."""
    return {p: meta.split(" ")[1] for p, meta in entries.items() if meta.startswith(GITLINK)}


async def _gitlinks_of(git: Git, commit: str) -> dict[str, str]:
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", commit)
    entries = (line.partition("\t") for line in listed.fields if line.startswith(GITLINK))
    return {path: meta.split(" ")[2] for meta, _, path in entries}


async def _pin(store: Store, commit: str, is_published: bool, left: Iterable[str]) -> None:
    """Give commits of a submodule names of their own: its store has no requirement's refs."""
    refs = {taken(each): each for each in (commit, *left)}
    if is_published:
        refs[published(commit)] = commit
    commands = "".join(f"update {ref} {each}\n" for ref, each in refs.items())
    await store.git.run("update-ref", "--stdin", stdin=commands)


def _files_among(root: Path, names: Iterable[str]) -> list[str]:
    """Those that are there as a file or a link, whatever the link points to; none beyond a link."""
    places = ((name, root / name) for name in names)
    found = [n for n, p in places if p.is_symlink() or (os.path.lexists(p) and not p.is_dir())]
    is_link = cache(lambda directory: (root / directory).is_symlink())
    return [name for name in found if not any(map(is_link, PurePosixPath(name).parents))]


def _has_entries(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())
