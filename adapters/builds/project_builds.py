"""Runs the builds of the agents file, programs or simulations, on one exact commit.

A build prepares its checkout if needed, then runs its command; everything is bounded in time.
The clone of an agent is prepared by the same commands, so that the agent can build and test.
"""

import asyncio
import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from time import monotonic

from adapters.builds.processes import BuildProcesses
from adapters.files import is_no_room, read_tail
from adapters.git import Git
from adapters.git.clone import checked_out
from adapters.git.prepared_files import begin_preparing, note_prepared, read_prepared
from adapters.locks import Locks, path_key
from adapters.readiness import disk_problem
from adapters.runs.kinds import PASSED_ON
from adapters.runs.resources import RunResources
from pipeline.agents_file import BuildCommand, CurrentAgents, SimulatedBuild
from pipeline.errors import AgentsFileRefused, GitFailed
from pipeline.model import (
    BuildRequest,
    BuildResult,
    BuildStep,
    Preparation,
    RunEnd,
    StageRequest,
)
from pipeline.numbers import slug

TAIL_LIMIT = 256 * 1024
LOG_LIMIT = 512 * 1024 * 1024
"""Bytes. A tool that prompts in a loop would fill the disk before its time-out."""
LOG_CHECK_SECONDS = 0.25
NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes of a shell (POSIX, "Exit Status for Commands")."""

PREPARED = "agog-prepared"
"""Records what was prepared, in the checkout's git directory: it goes with the checkout."""

LOCK_FILES = (
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pylock*.toml",
    "Pipfile.lock",
    "requirements*.txt",
    "Cargo.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "mix.lock",
    "pubspec.lock",
    "packages.lock.json",
    "gradle.lockfile",
    "flake.lock",
)
MANIFESTS = (
    "package.json",
    "pyproject.toml",
    "setup.py",
    "Pipfile",
    "Cargo.toml",
    "go.mod",
    "Gemfile",
    "composer.json",
    "build.gradle*",
    "pom.xml",
)
"""Read instead of a lock file in a project that has none."""
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")


@dataclass(frozen=True)
class Exit:
    """How a command ended; `reason` says what the code alone does not."""

    end: RunEnd
    code: int | None
    reason: str = ""

    @property
    def is_green(self) -> bool:
        """Only the exit code counts."""
        return self.end is RunEnd.EXITED and self.code == 0

    def result(
        self, started: datetime, log: Path, steps: tuple[BuildStep, ...], tree: str = ""
    ) -> BuildResult:
        """What is told of the commands that have just ended so, with the end of their log."""
        return BuildResult(
            end=self.end,
            exit_code=self.code,
            output=_output(log),
            started_at=started,
            ended_at=datetime.now(UTC),
            log_reference=str(log),
            reason=self.reason,
            tree=tree,
            steps=steps,
        )


class ProjectBuilds:
    """Implements `pipeline.ports.Builds`: one build at a time per checkout, no process left."""

    def __init__(
        self,
        agents: CurrentAgents,
        home: Path,
        environment: Mapping[str, str],
        resources: RunResources,
    ) -> None:
        home = home.absolute().resolve()
        self._agents = agents
        self._home = home
        self._records = home / "builds"
        self._locks = Locks(home / "locks")
        self._processes = BuildProcesses(home)
        self._environment = environment
        self._resources = resources

    async def prepare(
        self, request: StageRequest, names: Sequence[str], directory: str
    ) -> Preparation | None:
        """Prepare those builds in the clone of an agent, one after another until one is red.

        None if that was done before, green, by the same commands. A side that is not in the commit
        yet is left out. A cancelled call ends what it has started first. The agent gets the same
        resources afterwards.
        Raises: AgentsFileRefused for an unknown build, GitFailed if the clone is gone, OSError if
            it was not green and the disk is full.
        """
        builds = {name: self._command(name) for name in names}
        commands = tuple((build.directory, *build.prepare) for build in builds.values())
        place = Path(directory)
        async with self._locks.hold(path_key(place)):
            await self._processes.end(place)
            found = await asyncio.to_thread(checked_out, self._home, place, self._locks)
            if found is None:
                raise GitFailed(f"{place} is gone before it was prepared.")
            made, clone = found
            noted = await asyncio.to_thread(read_prepared, clone.private)
            if noted and noted.commands == commands:
                return None
            await asyncio.to_thread(begin_preparing, clone.private)
            preparation = await self._prepare(request, builds, place)
            # Red, it is tried again, but it is known all the same what is not the agent's.
            done = commands if preparation.is_green else ()
            await note_prepared(clone, made.commit, done)
        if not preparation.is_green:
            await self._check_disk()
        return preparation

    async def _prepare(
        self, request: StageRequest, builds: Mapping[str, BuildCommand], place: Path
    ) -> Preparation:
        name = f"prepare-{slug(request.stage.name)}-{request.attempt}.log"
        log = self._new_log(request.ref.number, name)
        started = datetime.now(UTC)
        steps: list[BuildStep] = []
        own = await asyncio.to_thread(self._resources.take, request.run_id)
        ended, last = Exit(RunEnd.EXITED, 0), next(iter(builds))
        for last, build in builds.items():  # noqa: B007 -- the last one is told
            variables = {**self._variables(build, request.ref.number), **own}
            job = BuildJob(build, place, log, variables, self._processes, steps=steps)
            if job.is_in_commit:
                ended = await job.prepare()
            if not ended.is_green:
                break
        result = ended.result(started, log, tuple(steps))
        manifests = await asyncio.to_thread(manifests_of, place, builds[last])
        return Preparation(last, result, *manifests)

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        """Prepare if needed and build in that checkout (empty: simulated), bounded in time.

        A cancelled call ends the build first.
        Raises: AgentsFileRefused for an unknown build, GitFailed if the checkout has moved on,
            OSError if it was not green and the disk is full.
        """
        build = self._found(request.build)
        if isinstance(build, SimulatedBuild):
            return await self._simulate(build)
        return await self._build(build, request, directory)

    def _found(self, name: str) -> BuildCommand | SimulatedBuild:
        agents = self._agents()
        build = agents.builds.get(name)
        if build is None:
            key = f"builds.{name}"
            raise AgentsFileRefused(agents.source, key, "there is no such build")
        return build

    def _command(self, name: str) -> BuildCommand:
        build = self._found(name)
        if isinstance(build, SimulatedBuild):
            raise AgentsFileRefused(self._agents().source, f"builds.{name}", "it is simulated")
        return build

    async def _simulate(self, build: SimulatedBuild) -> BuildResult:
        started = datetime.now(UTC)
        await asyncio.sleep(build.minutes * self._agents().minute_seconds)
        output = "simulated: " + ("passed" if build.passes else "failed")
        code = 0 if build.passes else 1
        return BuildResult(RunEnd.EXITED, code, output, started, datetime.now(UTC), "")

    async def _build(
        self, build: BuildCommand, request: BuildRequest, directory: str
    ) -> BuildResult:
        name = f"{slug(request.build)}-{request.occurrence}.log"
        log = self._new_log(request.ref.number, name)
        steps: tuple[BuildStep, ...] = ()
        tree, started = "", datetime.now(UTC)
        reason = "The build needs a project: set PROJECT_ROOT."
        ended = Exit(RunEnd.NOT_STARTED, None, reason)
        if directory:
            try:
                tree, steps, ended = await self._exclusively(build, request, Path(directory), log)
            finally:
                await asyncio.to_thread(self._resources.release, request.run_id)
        if not ended.is_green:
            await self._check_disk()
        return ended.result(started, log, steps, tree)

    async def _exclusively(
        self, build: BuildCommand, request: BuildRequest, place: Path, log: Path
    ) -> tuple[str, tuple[BuildStep, ...], Exit]:
        """The tree that was built, the steps, and how they ended.

        The lock keeps others from checking out another commit or building meanwhile: the result is
        evidence for one commit. If another checkout came first, the repeated activity makes a new
        one.
        """
        async with self._locks.hold(path_key(place)):
            await self._processes.end(place)
            found = await asyncio.to_thread(checked_out, self._home, place, self._locks)
            wanted = request.head.commit if request.head else None
            if found is None or found[0].commit != wanted:
                commit = found[0].commit if found else "nothing"
                raise GitFailed(f"{place} stands at {commit}, not at {wanted}.")
            made, clone = found
            own = await asyncio.to_thread(self._resources.take, request.run_id)
            variables = {**self._variables(build, request.ref.number), **own}
            job = BuildJob(build, place, log, variables, self._processes)
            ended = await job.run(clone.private / PREPARED, clone.git, clean=request.clean)
            return made.tree, tuple(job.steps), ended

    def _variables(self, build: BuildCommand, number: str) -> Mapping[str, str]:
        names = (*PASSED_ON, *build.environment)
        passed = {name: self._environment[name] for name in names if name in self._environment}
        return {**passed, "CI": "true", "AGOG_REQUIREMENT": number}

    def _new_log(self, number: str, name: str) -> Path:
        log = self._records / number / name
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")  # a repeat after a crash starts over
        return log

    async def _check_disk(self) -> None:
        """Raises: OSError if the disk is full, so that a red is no evidence against anybody."""
        if problem := await asyncio.to_thread(disk_problem, self._home, 0):
            raise OSError(errno.ENOSPC, problem)  # it is tried again once there is room


@dataclass
class BuildJob:
    """The commands of one build in one checkout; `steps` lists afterwards what was run."""

    build: BuildCommand
    worktree: Path
    log: Path
    environment: Mapping[str, str]
    processes: BuildProcesses
    steps: list[BuildStep] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """Where the commands run."""
        return self.worktree / self.build.directory

    @property
    def is_in_commit(self) -> bool:
        """Whether that is there; a link or `..` may lead out of the commit."""
        place = self.directory
        return place.is_dir() and place.resolve().is_relative_to(self.worktree)

    async def run(self, memory: Path, git: Git, *, clean: bool) -> Exit:
        """Prepare if the commit asks for something that is not prepared yet, then build.

        A `clean` build is in a fresh checkout and always prepares it. What was prepared is recorded
        in `memory`, out of the build's reach; `git` is ours on the files of the checkout.
        """
        if not self.is_in_commit:
            reason = f"The build directory {self.build.directory} is not in the commit."
            return Exit(RunEnd.NOT_STARTED, None, reason)
        prepared = await self._prepare(memory, git, clean=clean) if self.build.prepare else None
        if prepared and not prepared.is_green:
            return replace(
                prepared, reason=f"Preparing the build failed. {prepared.reason}".strip()
            )
        return await self._step("build", self.build.command)

    async def prepare(self) -> Exit:
        """Only prepare."""
        return await self._step("prepare", self.build.prepare)

    async def _prepare(self, memory: Path, git: Git, *, clean: bool) -> Exit | None:
        """Prepare; None if it is prepared already. Recorded only on success."""
        state = await asyncio.to_thread(
            prepared_state, self.worktree, self.directory, self.build.prepare
        )
        if not clean and await asyncio.to_thread(_remembered, memory) == state:
            return None
        await asyncio.to_thread(memory.unlink, missing_ok=True)
        ended = await self.prepare()
        if ended.is_green and await _survives_cleaning(git):
            await asyncio.to_thread(memory.write_text, state)
        return ended

    async def _step(self, name: str, command: tuple[str, ...]) -> Exit:
        """Run one command, end whatever it leaves running, and record its duration."""
        began = monotonic()
        try:
            return await self._bounded(command)
        finally:
            self.steps.append(BuildStep(name, command, round(monotonic() - began, 3)))

    async def _bounded(self, command: tuple[str, ...]) -> Exit:
        running = asyncio.create_task(
            self.processes.run(self.worktree, command, self.directory, self.environment, self.log)
        )
        try:
            async with asyncio.timeout(self.build.timeout.total_seconds()):
                while not (await asyncio.wait({running}, timeout=LOG_CHECK_SECONDS))[0]:
                    if self.log.stat().st_size > LOG_LIMIT:
                        reason = f"It printed more than {LOG_LIMIT} bytes."
                        return Exit(RunEnd.TIMED_OUT, None, reason)
            code = running.result()
            reason = f"It was ended by signal {-code}." if code < 0 else ""
            return Exit(RunEnd.EXITED, code, reason)
        except TimeoutError:
            return Exit(RunEnd.TIMED_OUT, None, f"It took longer than {self.build.timeout}.")
        except OSError as error:
            if is_no_room(error):
                raise
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            reason = f"{command[0]} cannot be run: {error.strerror}."
            return Exit(RunEnd.NOT_STARTED, code, reason)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _remembered(memory: Path) -> str:
    return memory.read_text() if memory.exists() else ""


async def _survives_cleaning(git: Git) -> bool:
    """Whether git ignores everything that was prepared: the next checkout removes the rest."""
    untracked = await git.run("ls-files", "--others", "--exclude-standard", "--directory", "-z")
    return not untracked.text


def _output(log: Path) -> str:
    """The end of a log as text, whole lines, without NUL (which PostgreSQL refuses)."""
    text = read_tail(log, TAIL_LIMIT)
    if log.stat().st_size > TAIL_LIMIT:
        text = text.partition("\n")[2] or text
    return text.replace("\0", "")


def prepared_state(worktree: Path, directory: Path, command: tuple[str, ...]) -> str:
    """A fingerprint of the command and of the lock files that it reads."""
    digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape"))
    places = dict.fromkeys((directory, worktree))
    for file in tuple(_found(places, LOCK_FILES)) or tuple(_found(places, MANIFESTS)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.relative_to(worktree)} {content}".encode("utf-8", "replace"))
    return digest.hexdigest()


def _found(places: dict[Path, None], patterns: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        for pattern in patterns:
            yield from (file for file in sorted(place.glob(pattern)) if file.is_file())


def manifests_of(worktree: Path, build: BuildCommand) -> tuple[tuple[str, ...], bool]:
    """Where what a build's `prepare` installs may be named, and whether any of that is there.

    Patterns of git's `glob`, from the root of the project: manifests, lock files, and the files
    that the command itself names.
    """
    directory = PurePosixPath(build.directory)
    program, *arguments = build.prepare
    named = (*MAKEFILES,) if program == "make" else (program, *arguments)
    patterns = [str(directory / pattern) for pattern in (*LOCK_FILES, *MANIFESTS)]
    patterns += [*LOCK_FILES, *MANIFESTS]
    patterns += [str(directory / name) for name in named if (worktree / directory / name).is_file()]
    patterns = [pattern for pattern in dict.fromkeys(patterns) if not pattern.startswith("/")]
    return tuple(patterns), any(next(worktree.glob(each), None) for each in patterns)
