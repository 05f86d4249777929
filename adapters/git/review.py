"""What speaks against a tree that an agent has left: links, filters and markers of a conflict."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from adapters.git.command import Git
from adapters.git.diff import Change, changes_between
from adapters.git.store import ATTRIBUTES
from pipeline.errors import printable

PRESENT = "--diff-filter=AMT"
"""Option of a diff: what is new or changed, and not what is gone."""
SHOWN = 20
"""Names that a remark or a refusal gives before it counts the rest."""
WIDTH = 7
"""Characters of a conflict marker, unless the path's attribute says otherwise."""
_MOST_LINKS = 40
"""Links that lie on the way of one; the system follows no more."""

Forbidden = Callable[[], Awaitable[frozenset[str]]]
"""Looks up the filters that attributes of the agent must not ask for."""


class Review:
    """Looks at a tree through the index that it was written from."""

    def __init__(self, git: Git, links: Mapping[str, str]) -> None:
        """Take git on that index, and the object of every symbolic link by its path."""
        self._git = git
        self._links = links

    async def links_out(self, changed: Sequence[Change]) -> str:
        """Why symbolic links are refused: they lead out of the tree, which other clones lack."""
        new = {entry.path: entry.blob for entry in changed if entry.is_link}
        # Those of repositories inside, which are taken as files, are known from here on.
        self._links = {**self._links, **new}
        # One that nobody has touched may lead elsewhere by one that is new.
        links = self._links if new else {}
        leading_out = []
        for path, blob in links.items():
            target = await self._target(blob)
            leads_out, passed = await self._leads_out(path, target)
            if leads_out and (path in new or not passed.isdisjoint(new)):
                leading_out.append(f"{printable(path)} -> {printable(target)}")
        if not leading_out:
            return ""
        return (
            "Symbolic links that lead out of the repository work on this machine alone: "
            f"{named(leading_out)}. Commit a relative link, or none."
        )

    async def _target(self, blob: str) -> str:
        return (await self._git.run("cat-file", "blob", blob)).text

    async def _leads_out(self, link: str, target: str) -> tuple[bool, set[str]]:
        """Whether it ends outside of the tree or in `.git`, and the links that lie on its way."""
        at, rest, steps = link.split("/")[:-1], target.split("/"), 0
        passed: set[str] = set()
        if os.path.isabs(target):
            return True, passed
        while rest and steps <= _MOST_LINKS:  # more of them lead in a circle
            part = rest.pop(0)
            if part == ".git" or (part == ".." and not at):
                return True, passed
            if part == "..":
                at.pop()
            if part in ("", ".", ".."):
                continue
            at.append(part)
            if further := self._links.get(here := "/".join(at)):
                at.pop()
                passed.add(here)
                target, steps = await self._target(further), steps + 1
                if os.path.isabs(target):
                    return True, passed
                rest = target.split("/") + rest
        return False, passed

    async def unresolved(
        self,
        tree: str,
        changed: Sequence[Change],
        parents: Sequence[str],
        merges: Sequence[tuple[str, ...]],
    ) -> tuple[str, ...]:
        """Changed files with lines of conflict markers that stand in none of the parents.

        `merges` are commits that the agent has merged with each other, its own included.
        """
        paths = [entry.path for entry in changed if entry.is_file]
        if not paths:
            return ()
        widths = await self._marker_widths(paths)
        if any(os.path.basename(entry.path) == ATTRIBUTES for entry in changed):
            # What was committed before says what is text; the agent's own word would hide markers.
            earlier = await self._marker_widths(paths, parents[0])
            widths = {p: min(widths.get(p, WIDTH), earlier.get(p, WIDTH)) for p in paths}
        narrowest = min((WIDTH, *widths.values()))
        options = (PRESENT, "--text", f"-G{_marker(narrowest, ',')}")
        found = []
        for entry in await changes_between(self._git, parents[0], tree, *options):
            if not entry.is_file:
                continue
            width = widths.get(entry.path, WIDTH)
            pattern = _marker(width, ",")
            allowed: Counter[str] = Counter()
            for parent in parents:
                allowed |= await self._lines(pattern, parent, entry.path)
            lines = await self._lines(pattern, tree, entry.path)
            if not _shows_conflict(lines - allowed, width):
                continue
            for parent, path in await self._renamed_from(parents, tree, entry.path):
                allowed |= await self._lines(pattern, parent, path)
            if _shows_conflict(lines - allowed, width):
                found.append(entry.path)
        for sides in merges:
            found += await self._middles(tree, sides, widths)
        return tuple(printable(path) for path in dict.fromkeys(found))

    async def _middles(
        self, tree: str, sides: tuple[str, ...], widths: Mapping[str, int]
    ) -> list[str]:
        """Files in conflict that keep the line between two sides, and neither end."""
        merged = await self._git.run(
            "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", *sides[:2],
            accept=(0, 1, 128),
        )  # fmt: skip
        found = []
        for path in merged.fields[1:] if merged.code == 1 else ():
            width = widths.get(path, WIDTH)
            pattern = rf"^={{{width}}}\s?$"
            if there := (await self._lines(pattern, tree, path)).total():
                before = [await self._lines(pattern, side, path) for side in sides]
                if there > sum(lines.total() for lines in before):
                    found.append(path)
        return found

    async def _renamed_from(
        self, parents: Sequence[str], tree: str, path: str
    ) -> list[tuple[str, str]]:
        """The parents that have the file under another name, with that name."""
        found = []
        for parent in parents:
            listed = await self._git.run(
                "diff-tree", "-r", "-z", "-M", "--diff-filter=R", "--name-status", parent, tree
            )
            fields = listed.fields
            olds = dict(zip(fields[2::3], fields[1::3], strict=True))
            if path in olds:
                found.append((parent, olds[path]))
        return found

    async def _lines(self, pattern: str, revision: str, path: str) -> Counter[str]:
        """Lines of a file, however large, that match."""
        found = await self._git.run(
            "--literal-pathspecs", "grep", "-a", "-h", "-E", "-e", pattern, revision, "--", path,
            accept=(0, 1),
        )  # fmt: skip
        return Counter(found.text.split("\n")[:-1])

    async def filters(self, changed: Sequence[Change], forbidden: Forbidden) -> str:
        """Why attributes are refused: they send files through a program that may not run here.

        The user's git would run it, and see other files than those that were delivered.
        """
        if not any(os.path.basename(entry.path) == ATTRIBUTES for entry in changed):
            return ""
        names = await forbidden()
        if not names:
            return ""
        listed = await self._git.run("ls-files", "-z")
        said = await self._git.run("check-attr", "-z", "--stdin", "filter", stdin=listed.text)
        fields = said.text.split("\0")
        asked = sorted(set(fields[2::3]) & names)
        if not asked:
            return ""
        return (
            f"Attributes ask for the filter {', '.join(asked)}, a program that this "
            f"installation does not allow: AGOG_GIT_FILTERS={','.join(asked)} would."
        )

    async def _marker_widths(self, paths: Sequence[str], revision: str = "") -> dict[str, int]:
        """What the attributes say that lie there, or those of a commit."""
        git, options = self._git, ["-z", "--stdin"]
        if revision:
            index = f"{git.variables['GIT_INDEX_FILE']}-{revision}"
            git = replace(git, variables={**git.variables, "GIT_INDEX_FILE": index})
            await git.run("read-tree", revision)
            options = ["--cached", *options]
        listed = await git.run(
            "check-attr", *options, "conflict-marker-size", stdin="\0".join(paths)
        )
        fields = listed.text.split("\0")
        values = zip(fields[::3], fields[2::3], strict=False)
        return {path: int(value) for path, value in values if value.isdecimal() and int(value)}


def _marker(width: int, more: str = "") -> str:
    """Lines that git writes around a conflict; `=======` alone underlines titles as well."""
    repeated = f"{{{width}{more}}}"
    return rf"^(<{repeated}|>{repeated}|[|]{repeated})([[:space:]].*)?$"


def _shows_conflict(lines: Iterable[str], width: int) -> bool:
    """Whether these are markers: any of that width, or both ends of a wider conflict.

    The agent's git may have taken its width from settings that are not in the tree. Narrower ones
    are text, for which projects set a wider one.
    """
    marks = {(line[0], len(line) - len(line.lstrip(line[0]))) for line in lines}
    opened, closed = ({size for mark, size in marks if mark == side} for side in "<>")
    return bool(opened & closed) or any(size == width for _, size in marks)


def undeclared(paths: Sequence[str]) -> str:
    """What is wrong with new pointers that nothing declares; empty for none."""
    if not paths:
        return ""
    what = "new commits of submodules that .gitmodules does not declare: no clone would find them."
    return f"{named([*map(printable, paths)])}: {what}"


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
