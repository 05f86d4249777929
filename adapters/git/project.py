"""The user's repository: read when a requirement opens, fast-forwarded when it is delivered.

Nothing else of it is ever changed, but for the objects that the delivery needs and, where git-lfs
is allowed, its store of files. Git runs here with the user's own settings, but without hooks, and
with those filters alone that the installation allows.
"""

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from platform import node
from tempfile import TemporaryDirectory

from adapters.git.agent_files import is_plain
from adapters.git.checkout import check_arrived, check_clean, finish, forward
from adapters.git.command import IDENTITY_KEYS, Git
from adapters.git.review import undeclared
from adapters.git.store import Names, Store, published
from adapters.locks import path_key
from pipeline.errors import GitFailed, OtherProject, ProjectRefused, printable
from pipeline.model import ProjectId
from pipeline.project_files import ProjectFiles, wanted

OLDEST_GIT = (2, 38)
"""The first with `merge-tree --write-tree` (its release notes)."""

OUR_BRANCHES = "agog/"
"""How branches of the orchestrator begin: none of them is a target."""

_DUBIOUS = re.compile("detected dubious ownership in repository at '(.*)'")


@dataclass(frozen=True)
class Checked:
    """What is checked out in the project: the base and the target of a requirement."""

    branch: str
    commit: str


@dataclass(frozen=True)
class Checkout:
    """A worktree of the user's, the main one included, and its branch."""

    path: Path
    branch: str


class Project:
    """The user's repository at `root`; `filters` are those that the installation allows."""

    def __init__(self, root: Path, filters: Sequence[str] = ()) -> None:
        self.root = root.absolute()
        self.lock_name = f"project.{path_key(self.root)}"
        """The lock under which its files are moved, and are looked at when a requirement opens."""
        self._filters = tuple(filters)
        self.git = Git(self.root)

    async def check(self, target: str = "") -> Checked:
        """The branch and commit to start from: `target`, or else what is checked out.

        Raises: ProjectRefused with the reason and what to do about it.
        """
        await self.check_repository()
        if await self.git.commit_of("HEAD") is None and not target:
            raise ProjectRefused(f"{self.root} has no commit yet. Make a first one, then start.")
        branch = await self._named(target) if target else await self._branch()
        if await self.git.commit_of("refs/heads/agog"):
            raise ProjectRefused(
                f"{self.root} has a branch `agog`, which leaves no room for agog/<REQ>/… Rename it."
            )
        commit = await self.target_commit(branch)
        await self._check_whole(commit)
        await self._check_filters(commit)
        git = Git(self.root, options=await self._quiet_filters())
        for place in (await self._places_of(branch, git))[:1]:
            await check_clean(place, branch)
        await self._check_submodules()
        return Checked(branch, commit)

    async def check_repository(self) -> None:
        """Refuse what is not the root of a work tree, or a git that is too old."""
        if not self.root.is_dir():
            raise ProjectRefused(
                f"{self.root} is not a directory. Set PROJECT_ROOT to the project."
            )
        version = (await self.git.run("--version")).line
        found = re.search(r"(\d+)\.(\d+)", version)
        if not found or (int(found[1]), int(found[2])) < OLDEST_GIT:
            raise ProjectRefused(f"{version}: at least {OLDEST_GIT[0]}.{OLDEST_GIT[1]} is needed.")
        await self._check_root()

    async def identify(self) -> ProjectId:
        """What tells this repository from others. Raises: ProjectRefused without a commit."""
        # Of several beginnings the last one listed is the oldest.
        listed = await self.git.run("rev-list", "--max-parents=0", "HEAD", accept=(0, 128))
        if listed.code:
            raise ProjectRefused(f"{self.root} has no commit yet. Make a first one, then start.")
        return ProjectId(str(self.root.resolve()), node(), listed.text.split()[-1])

    async def check_is(self, project: ProjectId) -> None:
        """Raises: OtherProject if this repository is neither that one nor a clone elsewhere."""
        here = str(self.root.resolve())
        if project.node == node():
            is_it = here == project.path
        else:  # it may lie elsewhere, but has the same beginning, unless that was cut off
            shallow = await self.git.run("rev-parse", "--is-shallow-repository")
            is_it = shallow.line == "true" or bool(await self.git.commit_of(project.commit))
        if not is_it:
            raise OtherProject(
                f"It was started for {project.path}, and PROJECT_ROOT of this worker is {here}."
                f" Run the worker with PROJECT_ROOT={shlex.quote(project.path)}, then retry."
            )

    async def filter_options(self) -> Mapping[str, str]:
        """The definitions of the allowed filters, as settings for our own git.

        Raises: ProjectRefused for a filter that the user has not defined.
        """
        defined = await self._defined_filters() if self._filters else {}
        for name in self._filters:
            if not any(key.startswith(f"filter.{name}.") for key in defined):
                raise ProjectRefused(
                    f"AGOG_GIT_FILTERS allows the filter {name}, which git does not know here: "
                    f"install it (for git-lfs: git lfs install), or take {name} out."
                )
        allowed = tuple(f"filter.{name}." for name in self._filters)
        options = {key: value for key, value in defined.items() if key.startswith(allowed)}
        if "lfs" in self._filters:
            # Its objects are named by their content. Kept with the user's, they are there when the
            # delivery writes the user's files.
            options["lfs.storage"] = await self._lfs_storage()
        return options

    async def identity(self) -> tuple[str, str] | None:
        """Name and address of whoever commits in this repository; None if it does not say."""
        if not await asyncio.to_thread(self.root.is_dir):
            return None
        pattern = r"^user\.(name|email)$"
        listed = await self.git.run("config", "-z", "--get-regexp", pattern, accept=(0, 1))
        said = dict(entry.partition("\n")[::2] for entry in listed.fields)
        name, address = (said.get(key, "") for key in IDENTITY_KEYS)
        return (name, address) if name and address else None

    async def _lfs_storage(self) -> str:
        said = await self.git.run("config", "lfs.storage", accept=(0, 1))
        common = await self.git.run("rev-parse", "--git-common-dir")
        return str((self.root / common.line).resolve() / (said.line or "lfs"))

    async def target_commit(self, target: str) -> str:
        """The target's tip. Raises: ProjectRefused if the branch is gone."""
        commit = await self.git.commit_of(f"refs/heads/{target}")
        if commit is None:
            raise ProjectRefused(
                f"The target branch {target} is gone. Create it again, then retry."
            )
        return commit

    async def holds(self, target: str, commit: str) -> bool:
        """Whether the target has that commit already. Raises: ProjectRefused if it is gone."""
        current = await self.target_commit(target)
        known = await self.git.run("cat-file", "-e", f"{commit}^{{commit}}", accept=(0, 1, 128))
        return known.code == 0 and await self.git.succeeds(
            "merge-base", "--is-ancestor", commit, current
        )

    async def swap(self, store: Store, number: str, target: str, commit: str) -> bool:
        """Fast-forward the target to the store's commit; False if it holds something else too.

        Raises: ProjectRefused if it is checked out and cannot be moved there.
        """
        await self.finish_moves(store)
        if await self.holds(target, commit):
            return True
        seen = await store.git.commit_of(Names(number).seen)
        current = await self.fetch_target(store, target, seen)
        if not await store.is_ancestor(current, commit):
            return False
        await self._check_rebases(target)
        git = Git(self.root, options=await self._quiet_filters())
        await self._hand_over(store, number, current, commit)
        if places := await self._places_of(target, git):
            await check_clean(places[0], target)
            note = _notes(store) / f"{number}.json"
            is_moved = await forward(places[0], target, current, commit, note)
            for place in places[1:] if is_moved else ():  # git moved the branch under those
                await check_arrived(place, target, current)
            return is_moved
        moved = await git.run(
            "update-ref", f"refs/heads/{target}", commit, current, accept=(0, 128)
        )
        if moved.code and await self.target_commit(target) == current:
            raise ProjectRefused(f"Git refused to move {target}: {moved.error.strip()[-2000:]}")
        for place in await self._places_of(target, git) if moved.code == 0 else ():
            await check_arrived(place, target, current)  # the user has just switched to it
        return moved.code == 0

    async def hand_over(self, store: Store, number: str, target: str, commit: str) -> None:
        """Bring the store's commit here, with what it names of submodules; no branch is touched.

        Raises: ProjectRefused.
        """
        await self._hand_over(store, number, await self.target_commit(target), commit)

    async def make_branch(self, branch: str, commit: str, old: str | None) -> None:
        """Make a branch at a commit that is here, or move it from `old`. Raises: ProjectRefused."""
        before = old or "0" * len(commit)
        made = await self.git.run(
            "update-ref", f"refs/heads/{branch}", commit, before, accept=(0, 128)
        )
        if made.code:
            raise ProjectRefused(f"Git refused to make {branch}: {made.error.strip()[-2000:]}")

    async def is_checked_out(self, branch: str) -> bool:
        """Whether a worktree of the user's is on that branch."""
        return bool(await self._places_of(branch, self.git))

    async def _hand_over(self, store: Store, number: str, old: str, new: str) -> None:
        git = Git(self.root, options=await self._quiet_filters())
        await _hand_over(git, store.path, new)
        await self._hand_over_submodules(store, number, old, new)

    async def finish_moves(self, store: Store, number: str = "*") -> None:
        """Undo what stopped moves of the checkout have done: of one requirement, or of all.

        Raises: ProjectRefused with the names of files that could not be brought back.
        """
        for note in await asyncio.to_thread(lambda: sorted(_notes(store).glob(f"{number}.json"))):
            await finish(note, await self._quiet_filters())

    async def _places_of(self, target: str, git: Git) -> list[Git]:
        """Git in each checkout that the branch is checked out in; a user may force a second one."""
        return [
            Git(checkout.path, options=git.options)
            for checkout in await self._checkouts()
            if checkout.branch == f"refs/heads/{target}"
        ]

    async def _hand_over_submodules(self, store: Store, number: str, old: str, new: str) -> None:
        """Give the user's submodules the commits that the new pointers name, under refs of ours.

        Raises: ProjectRefused for one that is not there any more: its commit would be nowhere.
        """
        if lost := await store.undeclared(old, new):
            raise ProjectRefused(f"{undeclared(lost)} Declare it there again, then retry.")
        before = {module.name: module for module in await store.submodules(old)}
        for module in await store.submodules(new):
            known = before.get(module.name, module)
            below = store.module(module.name, known.path)
            if (known is not module and known.commit == module.commit) or not below.exists:
                continue
            if await below.git.commit_of(module.commit) is None:
                continue  # it was there before us, and is fetched from its own remote
            git = await self._repository_of(below, module.name)
            if git is None:
                if await below.git.commit_of(published(module.commit)):
                    continue
                raise ProjectRefused(
                    f"The submodule {known.path} is not initialised in {self.root} any more, so "
                    f"that its new commit {module.commit[:10]} would be nowhere. Run there: "
                    f"`git submodule update --init -- {shlex.quote(known.path)}`, then retry."
                )
            await _hand_over(git, below.path, module.commit)
            await git.run("update-ref", f"refs/agog/{number}/{module.commit}", module.commit)
            if below.is_mirrored:
                user = Project(below.source)
                await user._hand_over_submodules(below, number, known.commit, module.commit)

    async def _repository_of(self, below: Store, name: str) -> Git | None:
        """The user's repository of a submodule: git keeps it where its checkout is gone."""
        if below.is_mirrored:
            return Git(below.source)
        common = await self.git.run("rev-parse", "--git-common-dir")
        kept = self.root / common.line / "modules" / name
        if not await asyncio.to_thread((kept / "HEAD").is_file):
            return None
        return Git(kept, {"GIT_WORK_TREE": str(kept)})  # its own is the checkout that is gone

    async def fetch_target(self, store: Store, target: str, seen: str | None) -> str:
        """The target's tip, taken over into the store.

        Raises: ProjectRefused if the branch is gone, or has lost the commit `seen`.
        """
        await self.target_commit(target)
        tip = await store.fetch_branch(target)
        if tip is None:
            raise GitFailed(f"{target} could not be read from {self.root}.")
        if seen and not await store.is_ancestor(seen, tip):
            raise ProjectRefused(
                f"{target} no longer holds {seen[:10]}, which this requirement stands on: it was "
                f"moved back, or rewritten, to {tip[:10]}. What was taken off would come back "
                f"with the delivery. Bring {seen[:10]} back to {target} and retry, or abort the "
                "requirement and start it again."
            )
        return tip

    async def _check_whole(self, commit: str) -> None:
        """Refuse a partial clone that lacks objects of the commit: we never fetch for the user."""
        partial = await self.git.run(
            "config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$",
            accept=(0, 1),
        )  # fmt: skip
        if not partial.text:
            return
        missing = await self.git.run(
            "rev-list", "--objects", "--missing=print", "--no-object-names", commit
        )
        count = sum(line.startswith("?") for line in missing.text.splitlines())
        if count:
            raise ProjectRefused(
                f"{self.root} is a partial clone: {count} objects of {commit[:10]} are not there. "
                "Run `git fetch --refetch --no-filter` there, then start."
            )

    async def forbidden_filters(self) -> frozenset[str]:
        """Filters that the user's git has, and that this installation does not allow."""
        if not await asyncio.to_thread(self.root.is_dir):
            return frozenset()
        defined = await self._defined_filters()
        names = {key.split(".", 1)[1].rpartition(".")[0] for key in defined}
        return frozenset(names - {*self._filters})

    async def _check_filters(self, commit: str) -> None:
        """Refuse attributes that ask for a filter which is defined but not allowed."""
        names = await self.forbidden_filters()
        if not names:
            return
        listed = await self.git.run("ls-tree", "-r", "-z", "--name-only", commit)
        with TemporaryDirectory() as scratch:
            # The attributes of that commit, which need not be checked out.
            index = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
            git = replace(self.git, variables=index, options={"core.splitIndex": "false"})
            await git.run("read-tree", commit)
            asked = await git.run(
                "check-attr", "--cached", "-z", "--stdin", "filter", stdin=listed.text
            )
        fields = asked.text.split("\0")
        wanted = sorted(set(fields[2::3]) & names)
        if wanted:
            raise ProjectRefused(
                f"Files of {self.root} go through the filter {', '.join(wanted)}, a program that "
                "may not run unless this installation allows it: set AGOG_GIT_FILTERS="
                f"{','.join((*self._filters, *wanted))} for worker and commands."
            )

    async def _defined_filters(self) -> Mapping[str, str]:
        listed = await self.git.run("config", "-z", "--get-regexp", r"^filter\.", accept=(0, 1))
        entries = (entry.partition("\n") for entry in listed.fields)
        return {key: value for key, _, value in entries}

    async def _quiet_filters(self) -> Mapping[str, str]:
        """Settings that turn off every filter which is not allowed."""
        allowed = tuple(f"filter.{name}." for name in self._filters)
        off = {"required": "false"}
        return {
            key: off.get(key.rpartition(".")[2], "")
            for key in await self._defined_filters()
            if not key.startswith(allowed or "\0")
        }

    async def _branch(self) -> str:
        # Not `--short`, which says `heads/main` where a tag has that name, too.
        head = await self.git.run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1))
        if head.code:
            raise ProjectRefused(
                f"{self.root} is on a detached HEAD. Check out the branch to deliver to, or name it"
                " with --target."
            )
        branch = head.line.removeprefix("refs/heads/")
        if branch != printable(branch):
            raise ProjectRefused(
                f"{self.root} is on {branch}, a name that is no UTF-8. Rename the branch."
            )
        if branch.startswith(OUR_BRANCHES):
            raise ProjectRefused(
                f"{self.root} is on {branch}, a branch of the orchestrator. "
                "Check out the branch to deliver to."
            )
        return branch

    async def _named(self, target: str) -> str:
        """The branch that was asked for, as it is called in full."""
        if target != printable(target) or not await self.git.succeeds(
            "check-ref-format", f"refs/heads/{target}"
        ):
            raise ProjectRefused(f"{printable(target)[:80]!r} is no name of a branch.")
        if target.startswith(OUR_BRANCHES):
            raise ProjectRefused(
                f"{target} is a branch of the orchestrator: name one of the project."
            )
        if await self.git.commit_of(f"refs/heads/{target}") is None:
            listed = await self.git.run(
                "for-each-ref", "--format=%(refname:lstrip=2)", "refs/remotes"
            )
            there = [name for name in listed.text.splitlines() if name.endswith(f"/{target}")]
            start = there[0] if there else "HEAD"
            command = shlex.join(("git", "branch", target, start))
            raise ProjectRefused(f"{self.root} has no branch {target}. Make it first: {command}")
        return target

    async def _check_root(self) -> None:
        """The directory must be the root of a work tree, not a bare repository, not a folder."""
        asked = await self.git.run(
            "rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--show-prefix",
            accept=(0, 128),
        )  # fmt: skip
        if _DUBIOUS.search(asked.error):
            raise self._untrusted(asked.error, self.root, self.root / ".git")
        if asked.code:
            raise ProjectRefused(
                f"{self.root} cannot be used as a git repository: {asked.error.strip()}. "
                "Run `git init` and make a first commit there, or set PROJECT_ROOT to a repository."
            )
        is_bare, is_inside, prefix = (*asked.text.splitlines(), "")[:3]
        if is_bare == "true" or is_inside == "false":
            raise ProjectRefused(
                f"{self.root} is a bare repository or a git directory. "
                "Set PROJECT_ROOT to a clone with a work tree."
            )
        if prefix:
            raise ProjectRefused(
                f"{self.root} is the folder {prefix} of a repository. Set PROJECT_ROOT to its root."
            )
        # Our store reads from it, so git must trust the git directory as well.
        read = await self.git.run("ls-remote", str(self.root), "refs/none", accept=(0, 128))
        if dubious := _DUBIOUS.search(read.error):
            # Git names the directory, and looks for the file `.git` that leads there (2.39).
            raise self._untrusted(read.error, *sorted({self.root / ".git", Path(dubious[1])}))
        if read.code:
            raise ProjectRefused(f"{self.root} cannot be read by git: {read.error.strip()}")

    async def _check_submodules(self) -> None:
        """Those that are initialised are read and written to likewise, and so on below."""
        file = self.root / ".gitmodules"
        listed = await self.git.run(
            "config", "--file", str(file), "-z", "--get-regexp", r"^submodule\..*\.path$",
            accept=(0, 1, 128),
        )  # fmt: skip
        places = [self.root / entry.partition("\n")[2] for entry in listed.fields]
        for place in places if is_plain(file) else ():
            if (place / ".git").exists():
                module = Project(place, self._filters)
                await module._check_root()
                await module._check_submodules()

    def _untrusted(self, said: str, *paths: Path) -> ProjectRefused:
        trust = "git config --global --add safe.directory"
        commands = ", ".join(f"`{trust} {shlex.quote(str(path))}`" for path in paths)
        return ProjectRefused(
            f"{self.root} belongs to another user: {said.strip().splitlines()[0]}. If you trust "
            f"it, run {commands} as the user of the worker and of commands, then retry."
        )

    async def _checkouts(self) -> tuple[Checkout, ...]:
        """The worktrees of the project that are there and on a branch.

        Where the git directory lies apart from the files, git lists it in their place.
        """
        listed = await self.git.run("worktree", "list", "--porcelain", "-z")
        apart = (await self.git.run("rev-parse", "--absolute-git-dir")).line
        blocks = (block.split("\0") for block in listed.text.split("\0\0"))
        entries = [dict(line.partition(" ")[::2] for line in block if line) for block in blocks]
        places = ((e["worktree"], e["branch"]) for e in entries if "branch" in e)
        found = (Checkout(self.root if p == apart else Path(p), branch) for p, branch in places)
        return tuple(checkout for checkout in found if checkout.path.is_dir())

    async def _check_rebases(self, target: str) -> None:
        """A branch in a rebase is checked out nowhere, yet moving it would break the rebase."""
        common = await self.git.run("rev-parse", "--git-common-dir")
        directory = self.root / common.line
        for git_dir in (directory, *directory.glob("worktrees/*")):
            for head in git_dir.glob("rebase-*/head-name"):
                if head.read_text(errors="surrogateescape").strip() == f"refs/heads/{target}":
                    raise ProjectRefused(
                        f"{target} is being rebased. Finish the rebase, then retry."
                    )


def _notes(store: Store) -> Path:
    """Where moves of the user's checkout are written down, each by its requirement."""
    return store.path / "moves"


async def check_project(
    project_root: Path, filters: Sequence[str] = (), target: str = ""
) -> Checked:
    """The branch (`target`, if given) and commit to start from; asked before anything is written.

    Raises: ProjectRefused with the reason and what to do about it.
    """
    return await Project(project_root, filters).check(target)


async def _hand_over(git: Git, store: Path, commit: str) -> None:
    """Bring a commit of ours into a repository of the user's; no ref of it is touched."""
    fetched = await git.run(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
        "--no-auto-maintenance", "--update-shallow", str(store), commit, accept=(0, 1, 128),
    )  # fmt: skip
    if fetched.code:
        raise ProjectRefused(
            f"{git.directory} does not take the commit {commit[:10]}: "
            f"{fetched.error.strip()[-2000:]}"
        )


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
