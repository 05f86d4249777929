"""The sides of a project with their builds, from its committed manifests."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.agent_programs import can_be_named
from pipeline.node_projects import node_parts
from pipeline.project_files import (
    Found,
    Part,
    ProjectFiles,
    argv_of,
    is_aside,
    is_within,
    listed,
    printable,
    where,
)
from pipeline.team import Side

PARTS_LIMIT = 6
"""Parts of one side that are built together: a project of more needs a build of its own."""

_CARGO_LOCK = "Cargo.lock"
_MAKE = ("Makefile", "makefile", "GNUmakefile")
_MAKE_BUILDS = ("build", "all", "compile")
_MAKE_TESTS = ("test", "tests", "check")
_TARGET = re.compile(r"^([A-Za-z][\w-]*)\s*:(?![=:])", re.MULTILINE)
_TEST_FILE = re.compile(r"(^|/)(test_[^/]+|[^/]+_test|conftest)\.py$")
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)", re.MULTILINE)
_COMPILES = "-m compileall -q -x '[.]venv' ."
_PIP_PROGRAMS = ("python", "python3", ".venv/bin/python", ".venv/bin/pip")
_GROUP_NAMES = ("dev", "test", "tests", "testing")


@dataclass(frozen=True)
class SideFound:
    """One side of the project, and how it is built: argv in a directory, and why so."""

    side: Side
    directory: str
    directory_reason: str
    prepare: tuple[str, ...]
    prepare_reason: str
    command: tuple[str, ...]
    command_reason: str
    programs: tuple[str, ...]
    parts: tuple[str, ...] = ()
    """The directories that are built together, where there are several."""


@dataclass(frozen=True)
class Sides:
    """What was found of a project, and what was left out and why."""

    found: tuple[SideFound, ...]
    notes: tuple[str, ...] = ()


def find_sides(files: ProjectFiles, site_check: str) -> Sides:
    """The sides that have a build; a project with none has no sides.

    `site_check` is the command line of our own check of a plain site.
    """
    found = Found()
    for finder in (node_parts, _python, _go, _cargo, _maven, _gradle):
        found += finder(files)
    if not found.parts:
        found += _make(files)
    if not found.parts:
        found += _site(files, site_check)
    strong = tuple(part for part in found.parts if not part.is_weak)
    if strong and len(strong) < len(found.parts):
        weak = [printable(part.directory) for part in found.parts if part.is_weak]
        found = Found(strong, (*found.notes, f"no tests in {listed(weak)}: left out"))
    by_side: dict[Side, list[Part]] = {}
    for part in found.parts:
        by_side.setdefault(part.side or Side.BACKEND, []).append(part)
    notes = list(found.notes)
    for side, parts in by_side.items():
        if more := parts[PARTS_LIMIT:]:
            names = [printable(each.directory) for each in more]
            notes.append(f"{side}: {listed(names)} left out, more than {PARTS_LIMIT} parts")
    sides = [_side(side, by_side[side][:PARTS_LIMIT]) for side in Side if side in by_side]
    return Sides(tuple(sides), tuple(dict.fromkeys(notes)))


def _side(side: Side, parts: Sequence[Part]) -> SideFound:
    """One build of all parts of a side."""
    programs = tuple(dict.fromkeys(name for part in parts for name in part.programs))
    if len(parts) == 1:
        (part,) = parts
        place = "the root" if part.directory == "." else printable(part.directory)
        return SideFound(
            side,
            part.directory,
            f"{part.tool} in {place}",
            argv_of(part.prepare),
            part.prepare_reason,
            argv_of(part.checks),
            part.reason,
            programs,
        )
    tools = [f"{part.tool} in {printable(part.directory)}" for part in parts]
    reasons = dict.fromkeys(part.prepare_reason for part in parts if part.prepare)
    return SideFound(
        side,
        ".",
        f"{len(parts)} parts: {listed(tools)}",
        argv_of([_inside(part.directory, part.prepare) for part in parts if part.prepare]),
        "; ".join(reasons),
        argv_of([_inside(part.directory, part.checks) for part in parts]),
        "; ".join(dict.fromkeys(part.reason for part in parts)),
        programs,
        tuple(printable(part.directory) for part in parts),
    )


def _inside(directory: str, commands: Sequence[str]) -> str:
    enter = () if directory == "." else (f"cd {shlex.quote(f'./{directory}')}",)
    return f"({' && '.join((*enter, *commands))})"


# --- Python ---------------------------------------------------------------------------------------


def _python(files: ProjectFiles) -> Found:
    found = Found()
    taken: list[str] = []
    for directory in files.directories("pyproject.toml", "setup.py", "requirements.txt"):
        members = _uv_members(files, taken, directory)
        if members:
            continue  # its workspace's root prepares and tests it
        try:
            project = _Python(files, directory)
        except ValueError:
            name = where(directory, "pyproject.toml")
            found += Found(notes=(f"{name} is no TOML that can be read",))
            continue
        if not project.is_one:
            continue
        taken.append(directory)
        found += Found((project.part(),))
    return found


def _uv_members(files: ProjectFiles, roots: Sequence[str], directory: str) -> bool:
    return any(
        is_within(directory, root) and "[tool.uv.workspace]" in files.text(root, "pyproject.toml")
        for root in roots
    )


class _Python:
    """One Python project: what prepares it, and how it is tested."""

    def __init__(self, files: ProjectFiles, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._manifest = tomllib.loads(files.text(directory, "pyproject.toml"))
        self._tools = _table(self._manifest, "tool")
        self._project = _table(self._manifest, "project")
        self._sources = [path for path in files.below(directory) if path.endswith(".py")]
        self._requirements = sorted(
            path
            for path in files.below(directory)
            if re.fullmatch(r"requirements[\w.-]*\.txt", path)
        )

    @property
    def is_one(self) -> bool:
        """Whether it is more than the settings of some tools."""
        return bool(self._sources) and bool(
            self._installs or self._requirements or self._is_tested or "uv" in self._tools
        )

    @property
    def _installs(self) -> bool:
        named = "project" in self._manifest or "poetry" in self._tools
        return named or self._files.has(self._directory, "setup.py")

    @property
    def _is_tested(self) -> bool:
        return any(_TEST_FILE.search(path) for path in self._sources)

    def part(self) -> Part:
        tool, prepare, reason, run, programs = self._environment()
        check, why = self._check()
        return Part(
            self._directory,
            f"Python with {tool}",
            Side.BACKEND,
            prepare,
            reason,
            (f"{run}{check or _COMPILES}",),
            why or "no tests were found: this finds no more than files that are not Python",
            programs,
            is_weak=not check,
        )

    def _environment(self) -> tuple[str, tuple[str, ...], str, str, tuple[str, ...]]:
        """The tool, its preparation and why, what stands before a command, what agents may run."""
        at, here = self._files, self._directory
        pyproject = where(here, "pyproject.toml")
        if at.has(here, "uv.lock") or ("uv" in self._tools and not at.has(here, "poetry.lock")):
            is_locked = at.has(here, "uv.lock")
            options = ("--locked", *self._uv_groups()) if is_locked else self._uv_groups()
            sync = " ".join(("uv sync", *options))
            reason = where(here, "uv.lock") if is_locked else f"[tool.uv] in {pyproject}"
            prepare = (sync, *self._missing("uv pip install"))
            # Running must not take away what the options above have added.
            return "uv", prepare, reason, "uv run --no-sync python ", ("uv", "python")
        if at.has(here, "poetry.lock") or "poetry" in self._tools:
            is_locked = at.has(here, "poetry.lock")
            reason = where(here, "poetry.lock") if is_locked else f"[tool.poetry] in {pyproject}"
            prepare = ("poetry install --all-extras", *self._missing("poetry run pip install"))
            return "poetry", prepare, reason, "poetry run python ", ("poetry", "python")
        install = ".venv/bin/pip install"
        options = tuple(f"-r {shlex.quote(path)}" for path in self._requirements)
        if self._installs:
            extras = [name for name in _GROUP_NAMES if name in self._extras]
            options += (shlex.quote(f"-e.[{','.join(extras)}]") if extras else "-e.",)
        packages = tuple(self._missing(""))
        line = " ".join((install, *options, *(each.strip() for each in packages)))
        steps = ("python3 -m venv .venv", *((line,) if options or packages else ()))
        sources = [*self._requirements, *(("the project itself",) if self._installs else ())]
        reason = f"{listed(sources) or 'nothing to install'}, in an environment of the build's own"
        pytest = (".venv/bin/pytest",) if self._uses_pytest else ()
        return "pip", steps, reason, ".venv/bin/python ", (*_PIP_PROGRAMS, *pytest)

    @property
    def _extras(self) -> Mapping[str, object]:
        return _table(self._project, "optional-dependencies")

    def _uv_groups(self) -> tuple[str, ...]:
        """Options for where its test tools stand: `dev` is there by default."""
        groups = _table(self._manifest, "dependency-groups")
        return (
            *(f"--extra {name}" for name in _GROUP_NAMES if name in self._extras),
            *(f"--group {name}" for name in _GROUP_NAMES[1:] if name in groups),
        )

    def _check(self) -> tuple[str, str]:
        """What Python is asked to do, and why that; empty where there is nothing to test."""
        tests = [path for path in self._sources if _TEST_FILE.search(path)]
        if self._files.has(self._directory, "manage.py") and not self._uses_pytest:
            return "manage.py test", "manage.py, and nothing names pytest"
        if tests and self._uses_pytest:
            return "-m pytest", f"pytest, for tests like {printable(min(tests))}"
        if tests:
            return "-m unittest discover", f"tests like {printable(min(tests))}, without pytest"
        return "", ""

    @property
    def _uses_pytest(self) -> bool:
        at, here = self._files, self._directory
        is_set_up = "pytest" in self._tools or at.has(here, "pytest.ini")
        return (
            is_set_up
            or "pytest" in self._declared
            or any(path.endswith("conftest.py") for path in self._sources)
        )

    @property
    def _declared(self) -> frozenset[str]:
        """Names of the packages that it says it needs, also for tests."""
        lines = [
            *_strings(self._project.get("dependencies")),
            *(each for values in self._extras.values() for each in _strings(values)),
            *(
                each
                for values in _table(self._manifest, "dependency-groups").values()
                for each in _strings(values)
            ),
            *_strings(_table(self._tools, "uv").get("dev-dependencies")),
            *_names_of_poetry(_table(self._tools, "poetry")),
            *(self._files.text(self._directory, name) for name in self._requirements),
        ]
        return frozenset(name.lower() for line in lines for name in _REQUIREMENT.findall(line))

    def _missing(self, install: str) -> Iterator[str]:
        """What installs pytest where tests need it and nothing declares it."""
        if self._is_tested and self._uses_pytest and "pytest" not in self._declared:
            yield f"{install} pytest"


def _names_of_poetry(poetry: Mapping[str, object]) -> Iterator[str]:
    yield from _table(poetry, "dependencies")
    yield from _table(poetry, "dev-dependencies")
    groups = _table(poetry, "group")
    for name in groups:
        yield from _table(_table(groups, name), "dependencies")


def _table(values: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, str))


# --- Go, Rust, Java, make -------------------------------------------------------------------------


def _go(files: ProjectFiles) -> Found:
    found = Found()
    for directory in files.directories("go.mod"):
        manifest = where(directory, "go.mod")
        prepare = ("go mod download",) if files.has(directory, "go.sum") else ()
        checks = ("go build ./...", "go vet ./...", "go test ./...")
        reason = f"all packages of {manifest}"
        part = Part(
            directory, "Go", Side.BACKEND, prepare, where(directory, "go.sum"), checks, reason,
            ("go", "gofmt"),
        )  # fmt: skip
        found += Found((part,))
    return found


def _cargo(files: ProjectFiles) -> Found:
    found = Found()
    for directory in files.topmost("Cargo.toml"):
        is_locked = files.has(directory, _CARGO_LOCK)
        locked = " --locked" if is_locked else ""
        every = " --workspace" if "[workspace]" in files.text(directory, "Cargo.toml") else ""
        manifest = where(directory, "Cargo.toml")
        part = Part(
            directory,
            "Cargo",
            Side.BACKEND,
            (f"cargo fetch{locked}",),
            where(directory, _CARGO_LOCK) if is_locked else f"{manifest}, without a lock file",
            (f"cargo build{every} --all-targets{locked}", f"cargo test{every}{locked}"),
            f"all targets of {manifest}",
            ("cargo",),
        )
        found += Found((part,))
    return found


def _maven(files: ProjectFiles) -> Found:
    found = Found()
    for directory in files.topmost("pom.xml"):
        program = "./mvnw" if files.has(directory, "mvnw") else "mvn"
        checks = (f"{program} --batch-mode --no-transfer-progress verify",)
        reason = f"{where(directory, 'pom.xml')}: verify compiles, tests and packages"
        found += Found(
            (Part(directory, "Maven", Side.BACKEND, (), "", checks, reason, (program,)),)
        )
    return found


def _gradle(files: ProjectFiles) -> Found:
    names = ("settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts")
    found = Found()
    for directory in files.topmost(*names):
        program = "./gradlew" if files.has(directory, "gradlew") else "gradle"
        # A daemon would be ended with the build anyway.
        checks = (f"{program} --no-daemon build",)
        reason = f"{where(directory, files.first(directory, names))}: build compiles and tests"
        found += Found(
            (Part(directory, "Gradle", Side.BACKEND, (), "", checks, reason, (program,)),)
        )
    return found


def _make(files: ProjectFiles) -> Found:
    """Only where nothing else tells how it is built: most makefiles just call another tool."""
    found = Found()
    for directory in files.topmost(*_MAKE):
        name = files.first(directory, _MAKE)
        targets = set(_TARGET.findall(files.text(directory, name)))
        chosen = [
            *[each for each in _MAKE_BUILDS if each in targets][:1],
            *[each for each in _MAKE_TESTS if each in targets][:1],
        ]
        manifest = where(directory, name)
        if not chosen:
            found += Found(notes=(f"{manifest}: no target is called build, all, test or check",))
            continue
        reason = f"targets {listed(chosen)} of {manifest}"
        checks = (f"make {' '.join(chosen)}",)
        found += Found((Part(directory, "make", None, (), "", checks, reason, ("make",)),))
    return found


# --- plain pages ----------------------------------------------------------------------------------


def _site(files: ProjectFiles, check: str) -> Found:
    """Pages that nothing builds: only where nothing else is found. What is checked is their links.

    The highest directory with a page is the site.
    """
    pages = [path for path in files.paths if path.endswith((".html", ".htm"))]
    own = [path for path in pages if not is_aside(path)]
    if not own:
        return Found()
    highest = min(own, key=lambda path: (path.count("/"), path))
    directory = highest.rpartition("/")[0] or "."
    reason = (
        f"pages like {printable(highest)} and no build: each link of a page to the site itself must"
        " lead to a file"
    )
    programs = (check,) if can_be_named(check) else ()
    part = Part(directory, "plain pages", Side.FRONTEND, (), "", (check,), reason, programs)
    return Found((part,))
