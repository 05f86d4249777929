"""Parts of a project that Node's package managers build: single packages and workspaces."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pipeline.project_files import (
    Found,
    Part,
    ProjectFiles,
    is_within,
    listed,
    printable,
    where,
)
from pipeline.team import Side

_FRONTEND_NAMES = frozenset(
    ("frontend", "front", "web", "webapp", "client", "ui", "app", "site", "website", "www")
)
_BACKEND_NAMES = frozenset(("backend", "back", "api", "server", "service", "services", "worker"))
_FRONTEND_PACKAGES = frozenset(
    (
        *("react", "react-dom", "preact", "vue", "svelte", "solid-js", "lit", "@angular/core"),
        *("next", "nuxt", "astro", "gatsby", "@sveltejs/kit", "@remix-run/react", "vite", "parcel"),
        *("@11ty/eleventy", "vitepress", "@docusaurus/core", "react-scripts", "expo"),
    )
)
_BACKEND_PACKAGES = frozenset(
    (
        *("express", "fastify", "koa", "hono", "@nestjs/core", "@hapi/hapi", "@apollo/server"),
        *("graphql-yoga", "pg", "mysql2", "mongodb", "mongoose", "@prisma/client", "typeorm"),
        *("knex", "better-sqlite3", "ws", "socket.io", "bullmq"),
    )
)
_BUILDS = ("build", "compile", "typecheck", "type-check", "check-types", "tsc")
_TESTS = ("test:ci", "test", "test:unit")
_PLACEHOLDER = "no test specified"
_WATCHES = re.compile(r"--watch(All)?\b(?!=false)|\bng test\b")
_BROWSERS = re.compile(r"\b(playwright|cypress|wdio|karma)\b")


@dataclass(frozen=True)
class Manager:
    """A package manager: how it installs what a lock file says, and how it runs a script."""

    name: str
    locks: tuple[str, ...]
    locked: str
    unlocked: str
    run: str
    member: Callable[[str, str, str], str]
    """The command line of a workspace's script, from its directory, its name and the script."""
    exec: str
    programs: tuple[str, ...]


NPM = Manager(
    "npm",
    ("package-lock.json", "npm-shrinkwrap.json"),
    "npm ci",
    "npm install",
    "npm run {}",
    lambda place, name, script: f"npm run {script} --workspace={shlex.quote(place)}",
    "npx --no-install {}",
    ("npm", "npx", "node"),
)
MANAGERS = (
    Manager(
        "pnpm",
        ("pnpm-lock.yaml",),
        "pnpm install --frozen-lockfile",
        "pnpm install",
        "pnpm run {}",
        lambda place, name, script: f"pnpm --filter {shlex.quote(f'./{place}')} run {script}",
        "pnpm exec {}",
        ("pnpm", "node"),
    ),
    Manager(
        "yarn",
        ("yarn.lock",),
        "yarn install --frozen-lockfile",
        "yarn install",
        "yarn run {}",
        lambda place, name, script: f"yarn workspace {shlex.quote(name or place)} run {script}",
        "yarn run {}",
        ("yarn", "node"),
    ),
    Manager(
        "bun",
        ("bun.lock", "bun.lockb"),
        "bun install --frozen-lockfile",
        "bun install",
        "bun run {}",
        lambda place, name, script: f"bun run --cwd {shlex.quote(place)} {script}",
        "bun x {}",
        ("bun",),
    ),
    NPM,
)


@dataclass(frozen=True)
class Package:
    """One `package.json`."""

    directory: str
    name: str
    scripts: Mapping[str, str]
    needs: frozenset[str]
    side: Side | None
    types: bool
    """Whether TypeScript could check it without a script."""

    @property
    def builds(self) -> tuple[str, ...]:
        """The script that builds it, or else one that checks its types."""
        return tuple(name for name in _BUILDS if name in self.scripts)[:1]

    @property
    def tests(self) -> tuple[str, ...]:
        """The script that runs its tests once and without a browser."""
        return tuple(name for name in _TESTS if self._why_not(name) is None)[:1]

    def untested(self) -> Iterator[str]:
        """Why its script `test` is not used."""
        reason = self._why_not("test")
        if reason and not self.tests:
            yield f"{where(self.directory, 'package.json')}: script test {reason}, so it is no gate"

    def _why_not(self, name: str) -> str | None:
        """Why a script is no gate; empty if there is no such script, None if it is one."""
        line = self.scripts.get(name)
        if line is None or _PLACEHOLDER in line:
            return ""
        if _BROWSERS.search(line):
            return "needs a browser"
        return "watches for changes" if _WATCHES.search(line) else None


def node_parts(files: ProjectFiles) -> Found:
    """Every package, or workspace of packages, that has a script to build or test it."""
    found = Found()
    taken: list[str] = []
    for directory in files.directories("package.json"):
        if directory in taken:
            continue
        root, notes = _package(files, directory)
        found += Found(notes=notes)
        if root is None:
            continue
        members, notes = _members(files, directory)
        taken.extend(member.directory for member in members)
        found += Found(notes=notes)
        manager, why = _manager(files, directory)
        if members:
            found += _workspace(root, members, manager, why)
        else:
            found += _single(root, manager, why)
    return found


def _single(package: Package, manager: Manager, why: tuple[str, str]) -> Found:
    checks = [manager.run.format(script) for script in (*package.builds, *package.tests)]
    scripts = (*package.builds, *package.tests)
    if not package.builds and package.types:
        checks.insert(0, manager.exec.format("tsc --noEmit"))
    notes = tuple(package.untested())
    if not checks:
        manifest = where(package.directory, "package.json")
        return Found(notes=(*notes, f"{manifest}: no script builds or tests it"))
    told = f"scripts {listed(scripts)}" if len(scripts) > 1 else f"script {listed(scripts)}"
    reason = f"{told} of {where(package.directory, 'package.json')}" if scripts else "tsconfig.json"
    part = Part(
        package.directory,
        manager.name,
        package.side,
        (why[0],),
        why[1],
        tuple(checks),
        reason,
        manager.programs,
    )
    return Found((part,), notes)


def _workspace(
    root: Package, members: Sequence[Package], manager: Manager, why: tuple[str, str]
) -> Found:
    """A part for each side; packages of neither are built before, and tested with the backend."""
    sides = tuple(side for side in Side if any(member.side is side for member in members))
    notes = tuple(note for member in members for note in member.untested())
    if len(sides) < 2 and (root.builds or root.tests):
        only = sides[0] if sides else root.side
        whole = Package(root.directory, root.name, root.scripts, root.needs, only, types=False)
        return _single(whole, manager, why) + Found(notes=notes)
    found = Found(notes=notes)
    for side in sides or (None,):
        own = [member for member in members if member.side is side]
        is_first = side is (sides[0] if sides else None)
        shared = [member for member in members if member.side is None and side is not None]
        needed = [each for each in shared if is_first or _is_needed(each, own, shared)]
        order = _in_order([*needed, *own])
        tested = [each for each in order if each.side is side or is_first]
        checks = [
            *_scripts(root, manager, order, "builds"),
            *_scripts(root, manager, tested, "tests"),
        ]
        if root.tests and is_first and not any(member.tests for member in members):
            checks.append(manager.run.format(root.tests[0]))
        if not checks:
            found += Found(notes=(f"{listed(_names(own))}: no script builds or tests it",))
            continue
        before = f"; {listed(_names(needed))} before" if needed else ""
        reason = f"scripts of the workspaces {listed(_names(own))}{before}"
        tool = f"{manager.name} workspaces"
        part = Part(
            root.directory, tool, side, (why[0],), why[1], tuple(checks), reason, manager.programs
        )
        found += Found((part,))
    return found


def _scripts(
    root: Package, manager: Manager, packages: Sequence[Package], kind: str
) -> Iterator[str]:
    for each in packages:
        place = str(PurePosixPath(each.directory).relative_to(root.directory))
        for script in each.builds if kind == "builds" else each.tests:
            yield manager.member(place, each.name, script)


def _names(packages: Sequence[Package]) -> tuple[str, ...]:
    return tuple(printable(package.directory) for package in packages)


def _is_needed(package: Package, own: Sequence[Package], shared: Sequence[Package]) -> bool:
    """Whether one of a side's packages needs it, directly or through another shared one."""
    reached, frontier = set[str](), [need for each in own for need in each.needs]
    by_name = {each.name: each for each in shared}
    while frontier:
        name = frontier.pop()
        if name in by_name and name not in reached:
            reached.add(name)
            frontier.extend(by_name[name].needs)
    return package.name in reached


def _in_order(packages: Sequence[Package]) -> list[Package]:
    """Each after those that it needs; a cycle keeps the order it came in."""
    done: dict[str, Package] = {}
    by_name = {each.name: each for each in packages}

    def take(each: Package, above: frozenset[str]) -> None:
        if each.directory in done or each.directory in above:
            return
        for need in sorted(each.needs):
            if need in by_name:
                take(by_name[need], above | {each.directory})
        done[each.directory] = each

    for each in packages:
        take(each, frozenset())
    return list(done.values())


def _package(files: ProjectFiles, directory: str) -> tuple[Package | None, tuple[str, ...]]:
    manifest = _json(files.text(directory, "package.json"))
    if manifest is None:
        return None, (f"{where(directory, 'package.json')} is not a JSON object",)
    needs = frozenset(
        name
        for key in ("dependencies", "devDependencies", "peerDependencies")
        for name in _strings(manifest.get(key))
    )
    has_page = files.has(directory, "index.html")
    types = "typescript" in needs and files.has(directory, "tsconfig.json")
    name = manifest.get("name")
    return Package(
        directory,
        name if isinstance(name, str) else "",
        _strings(manifest.get("scripts")),
        needs,
        side_of(directory, needs, has_page=has_page),
        types,
    ), ()


def side_of(directory: str, needs: frozenset[str], *, has_page: bool) -> Side | None:
    """The side that a package is on, by its directory's name, else by what it needs."""
    name = PurePosixPath(directory).name.lower()
    if name in _FRONTEND_NAMES:
        return Side.FRONTEND
    if name in _BACKEND_NAMES:
        return Side.BACKEND
    if needs & _FRONTEND_PACKAGES and not needs & {"express", "fastify", "@nestjs/core"}:
        return Side.FRONTEND
    if needs & _BACKEND_PACKAGES:
        return Side.BACKEND
    return Side.FRONTEND if has_page else None


def _members(files: ProjectFiles, root: str) -> tuple[list[Package], tuple[str, ...]]:
    patterns = _patterns(files, root)
    members: list[Package] = []
    notes: tuple[str, ...] = ()
    for directory in files.directories("package.json") if patterns else ():
        if directory == root or not is_within(directory, root):
            continue
        place = str(PurePosixPath(directory).relative_to(root))
        if _matches(place, patterns):
            member, more = _package(files, directory)
            members.extend(filter(None, (member,)))
            notes += more
    return members, notes


def _patterns(files: ProjectFiles, root: str) -> tuple[str, ...]:
    """Where the workspaces of that directory are; empty if it has none."""
    if text := files.text(root, "pnpm-workspace.yaml"):
        listing = re.search(r"^packages:\s*\n((?:[ \t]*(?:-.*|#.*)?\n?)*)", text, re.MULTILINE)
        lines = listing[1].splitlines() if listing else ()
        found = (re.match(r"\s*-\s*['\"]?([^'\"#]+?)['\"]?\s*(#.*)?$", line) for line in lines)
        return tuple(each[1] for each in found if each)
    declared = (_json(files.text(root, "package.json")) or {}).get("workspaces")
    if isinstance(declared, dict):
        declared = declared.get("packages")
    if not isinstance(declared, list):
        return ()
    return tuple(each for each in declared if isinstance(each, str))


def _matches(place: str, patterns: Sequence[str]) -> bool:
    chosen = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!").removeprefix("./").rstrip("/")
        depth_fits = "**" in wanted or wanted.count("/") == place.count("/")
        if depth_fits and fnmatchcase(place, wanted.replace("**", "*")):
            chosen = not pattern.startswith("!")
    return chosen


def _manager(files: ProjectFiles, directory: str) -> tuple[Manager, tuple[str, str]]:
    """The package manager, its installing command, and why that one."""
    for manager in MANAGERS:
        if lock := files.first(directory, manager.locks):
            return manager, (_locked(files, directory, manager), where(directory, lock))
    declared = (_json(files.text(directory, "package.json")) or {}).get("packageManager")
    named = str(declared).partition("@")[0]
    manager = next((each for each in MANAGERS if each.name == named), NPM)
    place = "" if directory == "." else f" in {printable(directory)}"
    return manager, (manager.unlocked, f"no lock file is committed{place}: versions may change")


def _locked(files: ProjectFiles, directory: str, manager: Manager) -> str:
    declared = (_json(files.text(directory, "package.json")) or {}).get("packageManager")
    is_modern = re.match(r"yarn@([2-9]|\d\d)", str(declared)) or files.has(directory, ".yarnrc.yml")
    return "yarn install --immutable" if manager.name == "yarn" and is_modern else manager.locked


def _json(text: str) -> Mapping[str, object] | None:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _strings(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: each for key, each in value.items() if isinstance(each, str)}
