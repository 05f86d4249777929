"""The project's repository as the pipeline sees it: open, prepare, integrate, build, deliver."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters.builds.processes import BuildProcesses
from adapters.git.clone import BUILD, KEPT_BUILD, STAGE, Clone, Clones
from adapters.git.command import IDENTITY_KEYS, Git
from adapters.git.garbage import forget_merged
from adapters.git.prepared_files import is_half_prepared
from adapters.git.project import Project
from adapters.git.publishing import place, push
from adapters.git.sharing import of_settings
from adapters.git.store import PROJECT_HEADS, Merge, Names, Store, attempt_key
from adapters.git.takeover import Takeover, take_over
from adapters.git.undo import revert
from adapters.locks import Locks, path_key
from pipeline.errors import GitFailed, HostLost, OtherProject, ProjectRefused, printable
from pipeline.lost_hosts import Moving, another_project, not_shared
from pipeline.model import BranchOrder, Head, MergeResult, ProjectId, StageRequest, Undo
from pipeline.numbers import slug
from pipeline.prompt import ProjectText
from pipeline.team import Role

MOVE_TRIES = 10
"""Tries to move the integration branch; our own merges queue, so only a stranger can interfere."""
SUBJECT_LENGTH = 72
_FILE = "100"
"""How the mode of a regular file begins; the others are links, folders and submodules."""
BODY_LENGTH = 4000

_AUTHOR = re.compile(r"([a-z][a-z0-9-]*)@agents\.agog\.invalid\b")
"""The address under which an agent commits, or is named beside us."""


Author = Callable[[], tuple[str, str] | None]
"""Gives name and address of who commits now, if somebody was configured."""


class GitWorkspaces:
    """Implements `pipeline.ports.Workspaces` by git alone.

    Integration branches, results and merges live in a store of ours; agents and builds work in
    clones of it. The user's repository is read by `open` and `merge_target`, and moved by
    `swap_target`. All refs of one step move in one transaction, so that a crash leaves either none
    of it or all of it.
    """

    def __init__(
        self,
        project_root: Path,
        home: Path,
        filters: Sequence[str] = (),
        author: Author = lambda: None,
        shared_repository: str = "",
        host: str = "",
    ) -> None:
        """`author` gives name and address of who commits; None: the repository's own identity.

        What is merged is pushed to the shared repository, if there is one, as work of `host`.
        """
        home = home.absolute().resolve()
        self._project = Project(project_root, filters)
        self._locks = Locks(home / "locks")
        self._author = author
        self._filters: Mapping[str, str] | None = None
        self._options: dict[str, str] = {}
        """Of our git; every store of the project shares them."""
        self._store = Store.of_project(home, self._project.root, self._locks, self._options)
        self._shared = of_settings(self._store, self._locks, shared_repository, host)
        self._host = host
        self._clones = Clones(home, self._store)
        self._processes = BuildProcesses(home)
        self._known: set[str] = set()
        """Numbers whose integration branch was seen here."""

    async def open(
        self, number: str, base: str = "", target: str = "", undo: Undo | None = None
    ) -> tuple[Head, str]:
        """Create the integration branch; returns its tip and the target branch.

        The target is `target`, or else the branch that is checked out. A fix starts at its
        requirement's commit `base` and has no target. With `undo` the tip takes that back.
        """
        names = Names(number)
        await self._project.check_repository()
        await self._take_settings()
        async with self._merging(number):
            if self._store.exists:
                if not self._is_ours(number):
                    await self._check_unused(names)
                is_open = await self._store.git.commit_of(names.integration) is not None
            if not self._store.exists or not is_open:
                await self._create(names, base, target, undo)
            found = await self._store.read_blob(names.target)
            opened = await self._head(names), found or ""
        await self._share(number)
        return opened

    async def check_is(self, project: ProjectId) -> None:
        """Raises: OtherProject if this repository is neither that one nor a clone elsewhere."""
        await self._project.check_is(project)

    async def preview_undo(self, number: str, target: str, undo: Undo) -> tuple[Git, str, str]:
        """What an undo would do now: our git, the target's tip and the commit that follows it.

        Raises: ProjectRefused if it cannot be undone.
        """
        await self._project.check_repository()
        await self._take_settings()
        _, tip = await self._refresh(target)
        return self._store.git, tip, await revert(self._store, number, target, tip, undo)

    async def head(self, number: str, commit: str = "") -> Head:
        """The tip of the integration branch at this moment, or that commit on it."""
        await self._check_begun(number)
        return await self._head(Names(number), commit)

    async def prepare(self, request: StageRequest) -> str:
        """A clone for the attempt at `request.head`; untouched when asked again for that.

        One at another commit, or prepared by half, is made again: no agent has been in it yet.
        """
        await self._check_begun(request.ref.number)
        await self._take_settings()
        clone, base = self._stage_clone(request), _base(request)
        async with self._locks.hold(path_key(clone.path)):
            is_half = await asyncio.to_thread(is_half_prepared, clone.private)
            if is_half or not clone.is_usable or clone.commit != base:
                await self._processes.end(clone.path)
                branch = Names(request.ref.number).stage(attempt_key(request))
                author = request.stage.agent.capitalize()
                short = branch.removeprefix("refs/heads/")
                await clone.make(base, branch=short, author=author)
        return str(clone.path)

    def place(self, request: StageRequest) -> str:
        """Where the attempt's clone is, or will be."""
        return str(self._stage_clone(request).path)

    async def text_at(self, number: str, commit: str, path: str, limit: int) -> ProjectText:
        """A text of up to `limit` bytes as the commit holds it, and whether it has changed.

        What cannot be given as a text is no error: an agent may have written the commit.
        """
        entry, base = await self._entry(commit, path), await self._store.commit(Names(number).base)
        if entry is None:
            return ProjectText()
        mode, blob, size = entry
        if not mode.startswith(_FILE):
            return ProjectText(path, flaw="is no file of its own")
        if size > limit:
            return ProjectText(path, flaw=f"is larger than {limit // 1024} KiB")
        text = (await self._store.git.run("cat-file", "blob", blob)).text
        if printable(text) != text:
            return ProjectText(path, flaw="is not UTF-8 text")
        is_changed = await self._entry(base, path) != entry
        return ProjectText(path, text, changed_since=base if is_changed else "")

    async def _entry(self, commit: str, path: str) -> tuple[str, str, int] | None:
        """Mode, object and size of a path in a commit; the size of what is no blob is 0."""
        git = self._store.git
        listed = await git.run("ls-tree", "-z", "-l", "--full-tree", commit, "--", path)
        for line in listed.fields:
            mode, _, blob, size = line.partition("\t")[0].split()
            return mode, blob, int(size) if size.isdecimal() else 0
        return None

    async def integrate(self, request: StageRequest, summary: str) -> MergeResult:
        """Commit the clone's files and merge them into the integration branch.

        What became of it is stored before the clone is removed: a repeat gives the same answer.
        """
        await self._check_begun(request.ref.number)
        await self._take_settings()
        names, key, clone = self._parts(request)
        async with self._locks.hold(path_key(clone.path)):
            result = await self._outcome(names, key)
            if result is None:
                result = await self._integrate(request, clone, summary)
            await self._share(request.ref.number)  # before its clone, which holds it as well
            await clone.discard()
        return result

    async def keep(self, request: StageRequest) -> str:
        """Commit what an unsuccessful attempt left to a kept ref, remove its clone; the ref."""
        await self._check_begun(request.ref.number)
        await self._take_settings()
        names, key, clone = self._parts(request)
        message = _stage_message(request, "kept after an unsuccessful attempt")
        async with self._locks.hold(path_key(clone.path)):
            ref = await self._keep(names, key, clone, _base(request), message)
        await self._share(request.ref.number)
        return ref

    async def discard(self, request: StageRequest) -> None:
        """Remove the clone of an attempt whose agent was never started."""
        _, _, clone = self._parts(request)
        async with self._locks.hold(path_key(clone.path)):
            await self._processes.end(clone.path)
            await clone.discard()

    async def last_author(self, number: str, commit: str, paths: Sequence[str]) -> str:
        """The agent whose work in this requirement changed one of these files last, if any did.

        `paths` are relative to the root of the project, and may hold wildcards of git's `glob`.
        """
        if not paths:
            return ""
        base = await self._store.commit(Names(number).base)
        logged = await self._store.git.run(
            "log", "-1", "--format=%ae%n%(trailers:key=Co-authored-by,valueonly)",
            f"{base}..{commit}", "--", *(f":(top,glob){path}" for path in paths),
        )  # fmt: skip
        found = (_AUTHOR.search(line) for line in logged.text.splitlines())
        return next((match[1] for match in found if match), "")

    async def checkout_build(self, number: str, build: str, commit: str, *, clean: bool) -> str:
        """The build's clone at the commit: made again if `clean`, else ignored files are kept."""
        await self._check_begun(number)
        await self._take_settings()
        # Two places: what is built in the kept one must not lie about in the clean one.
        clone = self._clones.at(number, f"{BUILD if clean else KEPT_BUILD}-{slug(build)}")
        async with self._locks.hold(path_key(clone.path)):
            await self._processes.end(clone.path)
            if clean or not await clone.reset(commit):
                await clone.make(commit)
        return str(clone.path)

    async def merge_fix(self, number: str, fix: str) -> MergeResult:
        """Merge what a fix has done into the integration branch of its requirement."""
        await self._check_begun(number)
        names = Names(number)
        theirs = await self._store.commit(Names(fix).integration)
        tip = await self._store.git.commit_of(names.merged(fix))
        if tip:
            return MergeResult(await self._head(names, tip), theirs)

        async def moves(merge: Merge) -> Mapping[str, str]:
            return {} if merge.conflicts else {names.merged(fix): merge.tip}

        merge = await self._advance(names, theirs, f"Merge {fix} into {number}\n", moves)
        await self._share(number)
        return MergeResult(await self._head(names, merge.tip), theirs, merge.conflicts)

    async def merge_target(self, number: str, target_branch: str) -> MergeResult:
        """Merge a moved target into the integration branch."""
        await self._check_begun(number)
        names = Names(number)
        seen = await self._store.git.commit_of(names.seen)
        theirs = await self._project.fetch_target(self._store, target_branch, seen)
        await self._store.refresh_submodules(theirs)

        async def moves(merge: Merge) -> Mapping[str, str]:
            return {} if merge.conflicts else {names.seen: theirs}

        message = f"Merge {target_branch} into {number}\n"
        merge = await self._advance(names, theirs, message, moves)
        await self._share(number)
        return MergeResult(await self._head(names, merge.tip), theirs, merge.conflicts)

    async def holds(self, target_branch: str, commit: str) -> bool:
        """Whether the target has the commit already."""
        return await self._project.holds(target_branch, commit)

    async def swap_target(self, number: str, target_branch: str, commit: str) -> bool:
        """Fast-forward the target to the commit; False if the target has moved on."""
        await self._check_begun(number)
        async with self._locks.hold(self._project.lock_name):
            return await self._project.swap(self._store, number, target_branch, commit)

    async def seal(self, number: str, target_branch: str, commit: str, title: str) -> str:
        """One merge commit of the requirement's work into the target: what is delivered instead.

        It holds the very files of the verified `commit`. Without a target that is an ancestor of
        it, and where the target holds it already, that is the answer; a repeat gives the same one.
        """
        await self._check_begun(number)
        names = Names(number)
        made = await self._store.git.commit_of(names.sealed)
        parents = await self._store.parents(made) if made else ()
        if made and parents[1:] == (commit,):
            if await self._project.holds(target_branch, made):
                return made
            if parents[0] == await self._project.target_commit(target_branch):
                return made
        target = await self._project.fetch_target(self._store, target_branch, None)
        if target == commit or not await self._store.is_ancestor(target, commit):
            return commit
        if await self._project.holds(target_branch, commit):
            return commit
        await self._take_settings()
        logged = await self._store.git.run(
            "log", "--format=%(trailers:key=Co-authored-by)", f"{target}..{commit}"
        )
        agents = sorted({line for line in logged.text.splitlines() if _AUTHOR.search(line)})
        subject = f"{number}: {_clean(title)}"
        body = () if len(subject) <= SUBJECT_LENGTH else (_clean(title), "")
        message = "\n".join((_cut(subject), "", *body, *agents, ""))
        sealed = await self._store.commit_tree(commit, (target, commit), message)
        await self._store.git.run("update-ref", names.sealed, sealed)
        return sealed

    async def publish(self, order: BranchOrder) -> str:
        """Place a branch at the commit and push it; the remote, empty if there is none."""
        await self._check_begun(order.number)
        async with self._locks.hold(self._project.lock_name):
            await place(self._project, self._store, order)
        return await push(self._project, order)

    async def before(self, number: str) -> str:
        """The target's commit that the requirement's work stands on."""
        return await self._store.commit(Names(number).seen)

    async def release(self, number: str) -> None:
        """Remove the requirement's clones; branches and kept refs stay.

        What an attempt left that was neither merged nor kept is kept first.
        """
        try:
            async with self._locks.hold(self._project.lock_name):
                await self._project.finish_moves(self._store, number)
        finally:  # what the user's checkout is refused for keeps no clone
            await self._remove_clones(number)
        await self._share(number)

    async def forget_merged(self, number: str, commit: str) -> None:
        """Remove refs of stages and fixes whose work is in the delivered commit."""
        await forget_merged(self._store, number, commit)

    async def take_over(self, what: Moving) -> None:
        """Have all that a lost host has pushed of a requirement, to continue it here.

        A repeat is harmless. Raises: HostLost in the words for a human if something is missing,
        ProjectRefused, GitFailed.
        """
        if self._shared is None:
            raise HostLost(not_shared(what))
        await self._project.check_repository()
        await self._take_settings()
        await self._store.refresh()
        async with self._merging(what.number):
            await self._shared.fetch(what)
            if not await self._is_of_project(Names(what.number)):
                raise HostLost(another_project(what, self._host))
            for part in what.parts:
                await asyncio.to_thread(self._clones.make_place, part.number)
        for part in what.parts:
            await self._share(part.number)

    async def share(self, numbers: Sequence[str] = ()) -> None:
        """Push what could not be pushed before, and those requirements as they are."""
        if self._shared is None or not self._store.exists:
            return
        for number in numbers:
            if await self._store.git.commit_of(Names(number).integration):
                await self._share(number)
        await self._shared.push_owed()

    async def _share(self, number: str) -> None:
        if self._shared and self._store.exists:
            await self._shared.push(number)

    async def _is_of_project(self, names: Names) -> bool:
        """Whether the requirement's base has history in common with a branch of this project."""
        listed = await self._store.git.run("for-each-ref", "--format=%(objectname)", PROJECT_HEADS)
        for commit in listed.text.split():
            if await self._store.git.succeeds("merge-base", names.base, commit):
                return True
        return False

    async def _remove_clones(self, number: str) -> None:
        for clone in self._clones.below(number):
            await self._check_begun(number)
            await self._take_settings()
            async with self._locks.hold(path_key(clone.path)):
                await self._processes.end(clone.path)
                key = clone.path.name.removeprefix(f"{STAGE}-")
                if key != clone.path.name and clone.is_usable:
                    await self._keep_unmerged(Names(number), key, clone)
                await clone.discard()
        await self._clones.discard_all(number)

    async def _take_settings(self) -> None:
        """Let our git run the filters that are allowed, which every clone needs; say who commits.

        Who that is may be edited at any time.
        """
        if self._filters is None:
            self._filters = await self._project.filter_options()
        who = self._author() or await self._project.identity()
        identity = dict(zip(IDENTITY_KEYS, who, strict=True)) if who else {}
        self._options.clear()
        self._options.update({**self._filters, **identity})

    async def _check_begun(self, number: str) -> None:
        """Raises: OtherProject if the work was not begun on this project: it goes on nowhere else.

        Its clones lie where those of all projects do; its commits lie in the store of its own.
        """
        if number in self._known:
            return
        integration = Names(number).integration
        if not self._store.exists or await self._store.git.commit_of(integration) is None:
            raise OtherProject(
                f"{number} was not begun on {self._project.root}: its branch {integration} is not"
                f" in {self._store.path}. Run the worker with the PROJECT_ROOT that it was begun"
                " with, then retry."
            )
        self._known.add(number)

    def _is_ours(self, number: str) -> bool:
        """Whether this host has opened the requirement: its directory is made before any ref."""
        return self._clones.place(number).is_dir()

    async def _check_unused(self, names: Names) -> None:
        """Refuse the refs of an earlier life: they would pass for merges of this one."""
        if (await self._store.git.run("for-each-ref", "--count=1", *names.all)).text:
            git = f"git --git-dir='{self._store.path}'"
            raise ProjectRefused(
                f"{self._store.path} holds branches of an earlier {names.number}. Take another "
                f"number, or delete them: {git} for-each-ref --format='delete %(refname)' "
                f"{' '.join(names.all)} | {git} update-ref --stdin"
            )

    async def _create(self, names: Names, base: str, target: str, undo: Undo | None) -> None:
        commit = base
        if not base:
            target, commit = await self._refresh(target)
        tip = (await revert(self._store, names.number, target, commit, undo)) if undo else commit
        await asyncio.to_thread(self._clones.make_place, names.number)
        written = await self._store.write_blob(target)
        refs = {names.base: commit, names.integration: tip, names.target: written}
        if target:
            refs[names.seen] = commit
        await self._store.move_refs(names.integration, None, refs)

    async def _refresh(self, target: str) -> tuple[str, str]:
        """Take the user's branches over; the target and its tip."""
        # A delivery that is half done would look like changes of the user's.
        async with self._locks.hold(self._project.lock_name):
            await self._project.finish_moves(self._store)
            checked = await self._project.check(target)
        await self._store.refresh()
        # Not the commit that was checked: the branch may have moved since.
        commit = await self._store.branch(checked.branch) or checked.commit
        await self._store.refresh_submodules(commit)
        return checked.branch, commit

    async def _integrate(self, request: StageRequest, clone: Clone, summary: str) -> MergeResult:
        names, key, _ = self._parts(request)
        if not clone.commit:
            raise ProjectRefused(f"The clone of {request.run_id} is gone before its merge.")
        if clone.is_usable:
            message = _stage_message(request, summary)
            forbidden = self._project.forbidden_filters
            taken = await take_over(clone, _base(request), message, forbidden)
        else:
            gone = "The agent has removed its working copy: nothing of its work is there."
            taken = Takeover(clone.commit, changed=False, refusal=gone)
        refs = _left(names, key, taken)
        refusal = taken.refusal or _refuse_empty(request, taken)
        if refusal or taken.unresolved:
            refs |= {names.stage(key): taken.commit, names.kept(key): taken.commit}
            result = await self._result(names, taken, "", taken.unresolved, refusal)
            refs[names.outcome(key)] = await self._stored(result)
            before = await self._store.git.commit_of(names.stage(key))
            await self._store.move_refs(names.stage(key), before, refs)
            return result
        refs[names.stage(key)] = taken.commit
        return await self._merge(request, taken, refs)

    async def _merge(
        self, request: StageRequest, taken: Takeover, refs: Mapping[str, str]
    ) -> MergeResult:
        """Merge, and store the outcome with the refs that it moves: all of them or none."""
        names, key, _ = self._parts(request)
        results: list[MergeResult] = []

        async def moves(merge: Merge) -> Mapping[str, str]:
            tip = "" if merge.conflicts else merge.tip
            results.append(await self._result(names, taken, tip, merge.conflicts, ""))
            told = {**refs, names.outcome(key): await self._stored(results[-1])}
            if merge.conflicts:
                return {**told, names.kept(key): taken.commit}
            return {**told, names.merged(key): merge.tip}

        await self._advance(names, taken.commit, _merge_message(request), moves)
        return results[-1]  # of the try that moved the refs

    async def _result(
        self, names: Names, taken: Takeover, tip: str, conflicts: tuple[str, ...], refusal: str
    ) -> MergeResult:
        elsewhere = [name for name in taken.left if not name.startswith("history")]
        remarks = taken.remarks
        if elsewhere:
            told = f"Left elsewhere, kept below {names.left('', '')}: {', '.join(elsewhere[:20])}"
            remarks = (*remarks, told)
        if beside := await asyncio.to_thread(self._clones.strangers, names.number):
            place = self._clones.left_beside(names.number)
            shown = ", ".join(printable(path.name) for path in beside[:20])
            remarks = (*remarks, f"Beside the clones of the agents, kept in {place}: {shown}")
        head = await self._head(names, tip)
        return MergeResult(head, taken.commit, conflicts, refusal, taken.changed, remarks)

    async def _outcome(self, names: Names, key: str) -> MergeResult | None:
        """What an earlier call for the attempt achieved."""
        stored = await self._store.read_blob(names.outcome(key)) if self._store.exists else None
        if stored is None:
            return None
        fields: dict[str, Any] = json.loads(stored)
        fields |= {name: tuple(fields[name]) for name in ("conflicts", "remarks")}
        return MergeResult(**{**fields, "head": Head(**fields["head"])})

    async def _stored(self, result: MergeResult) -> str:
        return await self._store.write_blob(json.dumps(asdict(result)))

    async def _keep(self, names: Names, key: str, clone: Clone, base: str, message: str) -> str:
        ref = names.kept(key)
        # A ref that stands is not written again: its clone may be half removed by now.
        if await self._store.git.commit_of(ref) is None:
            commit = await self._store.git.commit_of(names.stage(key)) or base
            refs = {}
            if clone.is_usable:
                taken = await take_over(clone, base, message)
                commit = taken.commit
                refs = _left(names, key, taken)
            await self._store.move_refs(ref, None, {**refs, ref: commit})
        await clone.discard()
        return ref

    async def _keep_unmerged(self, names: Names, key: str, clone: Clone) -> None:
        if await asyncio.to_thread(is_half_prepared, clone.private):
            return  # no agent has been in it
        if await self._store.git.commit_of(names.merged(key)) is None:
            base = clone.commit
            await self._keep(names, key, clone, base, f"Keep what {key} left\n")

    async def _advance(
        self,
        names: Names,
        theirs: str,
        message: str,
        moves: Callable[[Merge], Awaitable[Mapping[str, str]]],
    ) -> Merge:
        """Merge into the integration branch and move it together with what `moves` says."""
        await self._take_settings()
        base = await self._store.commit(names.base)
        async with self._merging(names.number):
            for _ in range(MOVE_TRIES):
                old = await self._store.commit(names.integration)
                merge = await self._store.merge(old, theirs, message, base)
                refs = {**await moves(merge), names.integration: merge.tip}
                if await self._store.move_refs(names.integration, old, refs):
                    return merge
        raise GitFailed(f"{names.integration} moved {MOVE_TRIES} times while it was merged into.")

    async def _head(self, names: Names, tip: str = "") -> Head:
        """The integration tip; its position is the number of commits since the base."""
        commit = tip or await self._store.commit(names.integration)
        counted = await self._store.git.run("rev-list", "--count", f"{names.base}..{commit}")
        return Head(commit, int(counted.line))

    def _parts(self, request: StageRequest) -> tuple[Names, str, Clone]:
        key = attempt_key(request)
        clone = self._clones.at(request.ref.number, f"{STAGE}-{key}")
        return Names(request.ref.number), key, clone

    def _stage_clone(self, request: StageRequest) -> Clone:
        return self._parts(request)[2]

    def _merging(self, number: str) -> AbstractAsyncContextManager[None]:
        return self._locks.hold(f"merge.{number}")


def _left(names: Names, key: str, taken: Takeover) -> dict[str, str]:
    """Refs for what was left elsewhere; an agent may have used names that no two refs can have."""
    return {
        names.left(key, f"{slug(name) or 'ref'}-{commit[:10]}"): commit
        for name, commit in taken.left.items()
    }


def _refuse_empty(request: StageRequest, taken: Takeover) -> str:
    """Why a stage without a change must not pass: its work may lie where nobody looks."""
    if taken.changed:
        return ""
    builds = request.stage.member.role == Role.IMPLEMENTATION
    # Others try things out and take them back; an implementer that has nothing to show has not.
    left = [name for name in taken.left if builds or not name.startswith("history")]
    left += [name for name in taken.below if builds or "/history" not in name]
    if not left:
        return ""
    return (
        "The files are as they were, but commits were left elsewhere: "
        f"{', '.join(left[:20])}. End on the branch that holds the work."
    )


def _base(request: StageRequest) -> str:
    if request.head is None:
        raise ProjectRefused(f"{request.run_id} has no commit to start from.")
    return request.head.commit


def _stage_message(request: StageRequest, summary: str) -> str:
    """A stage's work in the agent's words: subject, the whole summary if longer, trailers."""
    lines = _clean(summary).splitlines()
    subject = f"{request.ref.number} {request.stage.name}: {lines[0] if lines else 'changes'}"
    is_told = len(lines) <= 1 and len(subject) <= SUBJECT_LENGTH
    body = "" if is_told else "\n".join(lines)[:BODY_LENGTH].strip() + "\n\n"
    return f"{_cut(subject)}\n\n{body}{_trailers(request)}"


def _merge_message(request: StageRequest) -> str:
    """The merge of a stage into the integration branch."""
    subject = f"Merge {request.stage.name} into {request.ref.number}"
    return f"{_cut(subject)}\n\n{_trailers(request)}"


def _trailers(request: StageRequest) -> str:
    agent = request.stage.agent
    return (
        f"Co-authored-by: {agent.capitalize()} <{agent}@agents.agog.invalid>\n"
        f"Agog-Run: {request.run_id}\n"
    )


def _clean(text: str) -> str:
    """Without control characters, which git refuses (NUL) or a terminal obeys."""
    return "".join(mark for mark in text if mark == "\n" or mark.isprintable()).strip()


def _cut(subject: str) -> str:
    return subject if len(subject) <= SUBJECT_LENGTH else subject[: SUBJECT_LENGTH - 1] + "…"
