"""The builds of the agents file: programs or simulations, looked up by name."""

import asyncio
import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from adapters.builds.job import PREPARED, BuildJob, Exit, read_tail
from adapters.builds.processes import BuildProcesses
from adapters.git.clone import checked_out
from adapters.locks import Locks, path_key
from adapters.readiness import disk_problem
from adapters.runs.kinds import PASSED_ON
from pipeline.agents_file import AgentsFile, BuildCommand, SimulatedBuild
from pipeline.errors import AgentsFileRefused, GitFailed
from pipeline.model import BuildRequest, BuildResult, BuildStep, RunEnd
from pipeline.numbers import slug


class ProjectBuilds:
    """Implements `pipeline.ports.Builds`: one build at a time per worktree, nothing left alive."""

    def __init__(self, agents: AgentsFile, home: Path, environment: Mapping[str, str]) -> None:
        home = home.absolute().resolve()
        self._agents = agents
        self._home = home
        self._records = home / "builds"
        self._locks = Locks(home / "locks")
        self._processes = BuildProcesses(home)
        self._environment = environment

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        """Prepare if needed and build in that checkout (empty: simulated), bounded in time.

        Cancelled, it ends the build first.
        Raises: AgentsFileRefused for an unknown build, GitFailed if the checkout has moved on,
            OSError if it was not green and the disk is full.
        """
        build = self._agents.builds.get(request.build)
        if build is None:
            key = f"builds.{request.build}"
            raise AgentsFileRefused(self._agents.source, key, "there is no such build")
        if isinstance(build, SimulatedBuild):
            return await self._simulate(build)
        return await self._build(build, request, directory)

    async def _simulate(self, build: SimulatedBuild) -> BuildResult:
        started = datetime.now(UTC)
        await asyncio.sleep(build.minutes * self._agents.minute_seconds)
        output = "simulated: " + ("passed" if build.passes else "failed")
        code = 0 if build.passes else 1
        return BuildResult(RunEnd.EXITED, code, output, started, datetime.now(UTC), "")

    async def _build(
        self, build: BuildCommand, request: BuildRequest, directory: str
    ) -> BuildResult:
        log = self._records / request.ref.number / f"{slug(request.build)}-{request.occurrence}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")  # a repeat after a crash starts over
        steps: tuple[BuildStep, ...] = ()
        tree, started = "", datetime.now(UTC)
        reason = "The build needs a project: set PROJECT_ROOT."
        ended = Exit(RunEnd.NOT_STARTED, None, reason)
        if directory:
            tree, steps, ended = await self._exclusively(build, request, Path(directory), log)
        if not ended.is_green and (problem := await asyncio.to_thread(disk_problem, self._home, 0)):
            # Nobody's fault, and no evidence: it is built again when there is room.
            raise OSError(errno.ENOSPC, problem)
        return BuildResult(
            end=ended.end,
            exit_code=ended.code,
            output=read_tail(log),
            started_at=started,
            ended_at=datetime.now(UTC),
            log_reference=str(log),
            reason=ended.reason,
            tree=tree,
            steps=steps,
        )

    async def _exclusively(
        self, build: BuildCommand, request: BuildRequest, place: Path, log: Path
    ) -> tuple[str, tuple[BuildStep, ...], Exit]:
        """The tree that was built, what was run, and how that ended.

        Nobody may check out another commit, or build, while the job runs: evidence is for one.
        Where another checkout came first, the activity's repeat makes a new one.
        """
        async with self._locks.hold(path_key(place)):
            await self._processes.end(place)
            found = await asyncio.to_thread(checked_out, self._home, place)
            wanted = request.head.commit if request.head else None
            if found is None or found[0].commit != wanted:
                stands = found[0].commit if found else "nothing"
                raise GitFailed(f"{place} stands at {stands}, not at {wanted}.")
            made, private, git = found
            job = BuildJob(
                build,
                place,
                private / PREPARED,
                git,
                log,
                request.clean,
                self._variables(build, request),
                self._processes,
            )
            ended = await job.run()
            return made.tree, tuple(job.steps), ended

    def _variables(self, build: BuildCommand, request: BuildRequest) -> Mapping[str, str]:
        names = (*PASSED_ON, *build.environment)
        passed = {name: self._environment[name] for name in names if name in self._environment}
        return {**passed, "CI": "true", "AGOG_REQUIREMENT": request.ref.number}
