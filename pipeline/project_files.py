"""A project as `init` sees it: the listing of what is committed, the texts of its manifests.

What is found in it are parts: directories that one tool prepares, builds and tests.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pipeline.team import Side

DEPTH_LIMIT = 4
"""Directories above a manifest: what lies deeper belongs to something else."""
TEXTS_LIMIT = 200
"""Manifests that are read, the highest first."""

MANIFESTS = (
    *("package.json", "pnpm-workspace.yaml", ".yarnrc.yml"),
    *("pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt", "pytest.ini", "tox.ini"),
    *("go.mod", "go.work", "Cargo.toml", "pom.xml", "build.gradle", "build.gradle.kts"),
    *("settings.gradle", "settings.gradle.kts", "Makefile", "makefile", "GNUmakefile"),
)
_ASIDE = frozenset(
    (
        *("node_modules", "vendor", "third_party", "dist", "build", "target", "out"),
        *("examples", "example", "samples", "sample", "templates", "template", "docs"),
        *("fixtures", "testdata", "test", "tests", "__tests__", "e2e", "bench", "benchmarks"),
    )
)
"""Directories whose manifests are not the project's own."""


@dataclass(frozen=True)
class ProjectFiles:
    """Paths of the committed files, relative to the root, and the texts of the manifests."""

    paths: frozenset[str]
    texts: Mapping[str, str] = field(default_factory=dict)

    def has(self, directory: str, name: str) -> bool:
        """Whether the directory holds a file of that name."""
        return joined(directory, name) in self.paths

    def text(self, directory: str, name: str) -> str:
        """The text of a manifest; empty where there is none."""
        return self.texts.get(joined(directory, name), "")

    def first(self, directory: str, names: Sequence[str]) -> str:
        """The first of these files that the directory holds; empty for none."""
        return next((name for name in names if self.has(directory, name)), "")

    def below(self, directory: str) -> Iterator[str]:
        """The files in that directory and below it, relative to it."""
        prefix = "" if directory == "." else f"{directory}/"
        return (path[len(prefix) :] for path in self.paths if path.startswith(prefix))

    def directories(self, *names: str) -> tuple[str, ...]:
        """The directories that hold such a manifest, the highest first."""
        found = {
            str(path.parent)
            for path in map(PurePosixPath, self.texts)
            if path.name in names and not is_aside(str(path))
        }
        return tuple(sorted(found, key=lambda each: (each.count("/"), each != ".", each)))

    def topmost(self, *names: str) -> tuple[str, ...]:
        """The same without those that lie in another one."""
        found: list[str] = []
        for directory in self.directories(*names):
            if not any(is_within(directory, other) for other in found):
                found.append(directory)
        return tuple(found)


@dataclass(frozen=True)
class Part:
    """A directory that one tool builds and tests; `side` is None where nothing tells it.

    `prepare` and `checks` are command lines of a shell that run in the directory.
    """

    directory: str
    tool: str
    side: Side | None
    prepare: tuple[str, ...]
    prepare_reason: str
    checks: tuple[str, ...]
    reason: str
    programs: tuple[str, ...] = ()
    """What agents have to run to build and test it."""
    is_weak: bool = False
    """Whether the checks say little, so that it counts only where nothing else is found."""


@dataclass(frozen=True)
class Found:
    """The parts of a project, and what was left out and why."""

    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Found") -> "Found":
        return Found((*self.parts, *other.parts), (*self.notes, *other.notes))


def wanted(paths: Sequence[str]) -> tuple[str, ...]:
    """The files whose texts tell how the project is built, the highest first."""
    found = [path for path in paths if _is_manifest(path) and not is_aside(path)]
    return tuple(sorted(found, key=lambda path: (path.count("/"), path))[:TEXTS_LIMIT])


def is_aside(path: str) -> bool:
    """Whether a file lies too deep, or where other people's and trial projects lie."""
    above = PurePosixPath(path).parts[:-1]
    return len(above) > DEPTH_LIMIT or any(
        part in _ASIDE or (part.startswith(".") and part != ".") for part in above
    )


def is_within(directory: str, other: str) -> bool:
    """Whether a directory is that other one or lies below it."""
    return PurePosixPath(directory).is_relative_to(other) or other == "."


def joined(directory: str, name: str) -> str:
    """The path of a file in a directory of the project."""
    return name if directory == "." else f"{directory}/{name}"


def where(directory: str, name: str) -> str:
    """How a reason names a file: on one line, whatever the directory is called."""
    return printable(joined(directory, name))


def printable(text: str) -> str:
    """The text on one line without control characters: names come from the repository."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Some names as prose."""
    shown = list(names[:most])
    if more := len(names) - len(shown):
        shown.append(f"{more} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else ""


def argv_of(commands: Sequence[str]) -> tuple[str, ...]:
    """These command lines as one program: a shell only where one is needed."""
    if len(commands) == 1 and not set(commands[0]) & set("&|;()<>$`=*?~"):
        return tuple(shlex.split(commands[0]))
    return ("sh", "-c", " && ".join(commands)) if commands else ()


def _is_manifest(path: str) -> bool:
    name = PurePosixPath(path).name
    return any(fnmatchcase(name, pattern) for pattern in MANIFESTS)
