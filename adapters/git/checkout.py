"""A checkout of the user's: whether it is clean, how it is moved, and how half a move is undone.

Git moves files one by one and the branch last. Stopped in between (a full disk, a folder that it
may not write to, a power cut) it leaves files of both commits, which look like changes of the
user's. What a move is about is noted before it begins, so that what is half done can be undone.
"""

import asyncio
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.files import write_atomically
from adapters.git.command import LOCK_TAKEN, Git
from adapters.git.diff import Change, changes_between
from pipeline.errors import GitFailed, ProjectRefused

LOOKS, LOOK_PAUSE_SECONDS = 50, 0.2
"""How long somebody else's git is waited for in the user's checkout: ten seconds."""
SHOWN = 5


@dataclass(frozen=True)
class Move:
    """The checkout of `target` at `place` goes from `old` to `new`; `there` lay in its way.

    `hidden` are those of its files that the checkout does not show, since it is sparse.
    """

    place: str
    target: str
    old: str
    new: str
    there: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @classmethod
    async def planned(cls, place: Git, target: str, old: str, new: str) -> "Move":
        """A move that has not begun."""
        entries = await changes_between(place, old, new)
        added = [entry.path for entry in entries if not entry.was_there]
        there = await asyncio.to_thread(_existing, place.directory, added)
        all_hidden = await _hidden(place)
        hidden = [entry.path for entry in entries if entry.path in all_hidden]
        return cls(str(place.directory), target, old, new, tuple(there), tuple(hidden))

    @classmethod
    def noted(cls, file: Path) -> "Move | None":
        """The move that is or was under way."""
        try:
            fields = json.loads(file.read_bytes() or b"null")
        except FileNotFoundError:
            return None
        if not fields:
            return None
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})

    def note(self, file: Path) -> None:
        """Write it down, durably."""
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(asdict(self)))


async def forward(place: Git, target: str, old: str, new: str, note: Path) -> bool:
    """Fast-forward the checkout and its branch; False if the branch has moved meanwhile.

    Until it is done or undone, `note` tells of it. Raises: ProjectRefused if git refuses, with the
    checkout as it was.
    """
    move = await Move.planned(place, target, old, new)
    await asyncio.to_thread(move.note, note)
    # A strategy that a setting names, such as `ours`, would turn the fast-forward into a merge.
    settings = {**place.options, f"branch.{target}.mergeOptions": ""}
    merged = await Git(place.directory, options=settings).run(
        # Each of these can be turned by a setting of the repository; none of them may be.
        "merge", "--ff-only", "--strategy=ort", "--no-squash", "--commit", "--no-autostash",
        "--no-overwrite-ignore", "--no-verify-signatures", "--no-edit", "--no-stat",
        "--quiet", new, accept=(0, 1, 2, 128),
    )  # fmt: skip
    now = await place.commit_of(f"refs/heads/{target}")
    # Where the user's git holds the index, ours has touched nothing.
    if now == old and not LOCK_TAKEN.search(merged.error) and await _is_on(place, target):
        await _undo(place, move, just_now=True)
    await asyncio.to_thread(note.unlink)
    if now == new:
        await check_arrived(place, target, old)
        return True
    if now != old:
        return False
    raise ProjectRefused(
        f"{target} is checked out in {place.directory}, where git refused to move it: "
        f"{(merged.error or merged.text).strip()[-2000:]}"
    )


async def finish(note: Path, options: Mapping[str, str]) -> None:
    """Undo, or check, what a move that was stopped has left half done.

    Raises: ProjectRefused with the names of files that could not be brought back.
    """
    move = await asyncio.to_thread(Move.noted, note)
    if move is not None:
        place = Git(Path(move.place), options=options)
        is_there = await asyncio.to_thread(os.path.isdir, move.place)
        if is_there and await _is_on(place, move.target):
            if await _is_locked(place):
                return  # somebody is at work there: whoever moves it next will be told
            if await place.commit_of("HEAD") == move.new:
                await check_arrived(place, move.target, move.old)
            else:
                await _undo(place, move, just_now=False)
    await asyncio.to_thread(note.unlink, missing_ok=True)


async def _is_on(place: Git, target: str) -> bool:
    head = await place.run("symbolic-ref", "--quiet", "HEAD", accept=(0, 1, 128))
    return head.line == f"refs/heads/{target}"


async def _undo(place: Git, move: Move, *, just_now: bool) -> None:
    """Take back what a move that did not reach its branch has done to files and index.

    A file counts as the move's if it holds what it would have become, or the beginning of that, or
    is missing; an empty one only if git has stopped `just_now`. Whatever else the user has made of
    it stays. Raises: ProjectRefused with the names of those that could not be brought back.
    """
    at_head = await _tree(place)
    entries = [
        entry for entry in await changes_between(place, move.old, move.new)
        if entry.path not in move.there
        and at_head.get(entry.path) == (f"{entry.old_mode} {entry.old_blob}" if entry.was_there
                                        else None)
    ]  # fmt: skip
    await _restore_index(place, entries, {*move.hidden})
    changed = await _changes(place)
    suspects = [entry for entry in entries if entry.path in changed or not entry.was_there]
    judged = [(entry, await _is_half_done(place, entry, just_now)) for entry in suspects]
    touched = [entry for entry, is_half_done in judged if is_half_done]
    await asyncio.to_thread(_remove, place.directory, [e.path for e in touched if e.is_blob])
    names = [entry.path for entry in touched if entry.was_there]
    # Without `--force`: it would remove whatever of the user's lies in the way.
    said = await place.run(
        "checkout-index", "--quiet", "-z", "--stdin",
        stdin="".join(f"{name}\0" for name in names), accept=(0, 1, 128),
    )  # fmt: skip
    await place.run("update-index", "-q", "--refresh", accept=(0, 1, 128))
    open_questions = [entry.path for entry, is_half_done in judged if is_half_done is None]
    changed = await _changes(place)
    added = [entry.path for entry in touched if not entry.was_there]
    left = [name for name in names if name in changed]
    left += await asyncio.to_thread(_existing, place.directory, added)
    if left or open_questions:
        shown = sorted({*left, *open_questions})[:SHOWN]
        raise ProjectRefused(
            f"Git has stopped half-way in {place.directory}, and these files may stand as the "
            f"delivery would have them: {', '.join(shown)}. {said.error.strip()[-1000:]} Compare "
            f"them with {move.target}, then retry."
        )


async def _tree(git: Git) -> dict[str, str]:
    listed = await git.run("ls-tree", "-r", "-z", "--full-tree", "HEAD")
    entries = (line.partition("\t") for line in listed.fields)
    return {path: " ".join(meta.split(" ")[::2]) for meta, _, path in entries}


async def _restore_index(place: Git, entries: list[Change], hidden: set[str]) -> None:
    """Entries that are the new ones already are the old ones again, and as hidden as before."""
    listed = await place.run("ls-files", "--stage", "-z")
    now = {path: meta for meta, _, path in (line.partition("\t") for line in listed.fields)}
    back, kept = [], []
    for entry in entries:
        there = now.get(entry.path)
        if there == (f"{entry.mode} {entry.blob} 0" if entry.is_there else None):
            back.append(entry)
        elif there == f"{entry.old_mode} {entry.old_blob} 0":
            kept.append(entry.path)
    if back:
        lines = (f"{entry.old_mode} {entry.old_blob}\t{entry.path}\0" for entry in back)
        await place.run("update-index", "-z", "--index-info", stdin="".join(lines))
    names = {entry.path for entry in back} & hidden
    # A git that was stopped may show an old entry whose file it has not written.
    if shown := hidden.intersection(kept) - await _hidden(place):
        names |= shown - {*await asyncio.to_thread(_existing, place.directory, sorted(shown))}
    if names:
        listed_names = "".join(f"{name}\0" for name in sorted(names))
        await place.run("update-index", "-z", "--skip-worktree", "--stdin", stdin=listed_names)


async def _hidden(place: Git) -> set[str]:
    """Files that the index keeps off the disk: those outside of a sparse checkout."""
    listed = await place.run("ls-files", "-t", "-z")
    return {line[2:] for line in listed.fields if line.startswith("S ")}


async def _is_half_done(place: Git, entry: Change, just_now: bool) -> bool | None:
    """Whether the file is the move's work; None where that cannot be told."""
    try:
        there = await asyncio.to_thread(_content, place.directory / entry.path)
    except (FileNotFoundError, NotADirectoryError):  # or a file stands where its folder was
        return entry.was_there
    except IsADirectoryError:
        return False
    except OSError:
        return None if entry.is_blob else False
    if not entry.is_blob:
        return False
    if not there:
        return just_now or (await place.run("cat-file", "-s", entry.blob)).line == "0"
    try:
        new = await place.run("cat-file", "--filters", f"--path={entry.path}", entry.blob)
    except GitFailed:  # larger than what we read of a git
        return None
    return new.text.encode("utf-8", "surrogateescape").startswith(there)


def _content(path: Path) -> bytes:
    """What a file holds or a link leads to. Raises: OSError."""
    return os.readlink(bytes(path)) if path.is_symlink() else path.read_bytes()


def _remove(root: Path, names: list[str]) -> None:
    """Remove files, and folders that are empty without them."""
    for name in names:
        path = root / name
        try:
            path.unlink(missing_ok=True)
            for folder in path.relative_to(root).parents[:-1]:
                (root / folder).rmdir()
        except OSError:  # the folder is not empty; what could not be removed is told by its name
            continue


def _existing(root: Path, names: list[str]) -> list[str]:
    """Those that are there; a folder is none: git replaces it, or refuses to."""
    places = ((name, root / name) for name in names)
    return [n for n, p in places if p.is_symlink() or (os.path.lexists(p) and not p.is_dir())]


async def check_arrived(place: Git, target: str, before: str) -> None:
    """The branch has moved; so must have the files, unless git was stopped half-way.

    What differs from both commits the user has edited meanwhile: that is nobody's business.
    """
    changes = await _changes(place)
    if not changes:
        return
    edited = await place.run(
        "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", before, "--"
    )
    left = [name for name in changes if name not in edited.fields]
    if left:
        raise ProjectRefused(
            f"{target} was moved from {before[:10]}, but {len(left)} of its files in "
            f"{place.directory} were not brought along: {', '.join(left[:5])}. Compare them "
            f"with {target}, then bring each of them there: `git restore --source=HEAD "
            f"--staged --worktree -- {shlex.join(left[:5])}`."
        )


async def check_clean(git: Git, branch: str) -> None:
    """Refuse uncommitted changes of tracked files; untracked files are nobody's business."""
    changes = await _settled_changes(git)
    if not changes:
        return
    if earlier := await _left_behind(git, branch):
        raise ProjectRefused(
            f"{branch} was moved from {earlier[:10]} by somebody who did not bring the files "
            f"in {git.directory} along: they still stand at {earlier[:10]}. Nothing of yours "
            f"is changed. Run `git read-tree -m -u {earlier} HEAD` there, then retry."
        )
    raise ProjectRefused(
        f"{git.directory} has uncommitted changes ({', '.join(changes[:5])}). "
        "Commit or stash them first."
    )


async def _changes(git: Git) -> list[str]:
    """Tracked files that differ from HEAD. A submodule that merely stands elsewhere does not."""
    status = await git.run(
        "status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=no",
        "--ignore-submodules=dirty", "--no-show-stash", "--no-branch", "--no-ahead-behind",
    )  # fmt: skip
    found = []
    for entry in status.fields:
        kind, changed, *rest = entry.split(" ", 8)
        is_submodule = rest and rest[0].startswith("S")
        if kind == "1" and is_submodule and changed[0] == ".":
            continue
        found.append(entry.split(" ", 10)[-1] if kind == "u" else rest[-1])
    return found


async def _settled_changes(git: Git) -> list[str]:
    """As `_changes`, once no git is at work there: halfway through a merge, files seem changed.

    The user's git may be, or that of a worker that was killed. What stays the same over two looks
    is not in motion.
    """
    lock = await _lock_of(git)
    seen: tuple[str | None, list[str]] | None = None
    for _ in range(LOOKS):
        before, seen = seen, (await git.commit_of("HEAD"), await _changes(git))
        if not seen[1] or (seen == before and not await asyncio.to_thread(lock.exists)):
            break
        await asyncio.sleep(LOOK_PAUSE_SECONDS)
    return seen[1] if seen else []


async def _lock_of(git: Git) -> Path:
    git_dir = await git.run("rev-parse", "--absolute-git-dir")
    return Path(git_dir.line) / "index.lock"


async def _is_locked(git: Git) -> bool:
    """Whether a git holds the index all the time that is waited for one."""
    lock = await _lock_of(git)
    for _ in range(LOOKS):
        if not await asyncio.to_thread(lock.exists):
            return False
        await asyncio.sleep(LOOK_PAUSE_SECONDS)
    return True


async def _left_behind(git: Git, branch: str) -> str:
    """The earlier commit of the branch at which index and files still stand; empty if at none.

    So it looks where a branch was moved without its checkout, for instance by `git update-ref`.
    """
    if (await git.run("diff-files", "--quiet", "--ignore-submodules", accept=(0, 1))).code:
        return ""
    moved = await git.run(
        "reflog", "show", "--format=%H", "-n", "20", f"refs/heads/{branch}", accept=(0, 128)
    )
    before = await git.run("rev-list", "-n", "50", "HEAD", accept=(0, 128))
    head = await git.commit_of("HEAD")  # where what is staged stands is no earlier commit
    for commit in dict.fromkeys((*moved.text.split(), *before.text.split())):
        if commit == head:
            continue
        same = await git.run(
            "diff-index", "--cached", "--quiet", "--ignore-submodules", commit, "--",
            accept=(0, 1, 128),
        )  # fmt: skip
        if same.code == 0:
            return commit
    return ""
