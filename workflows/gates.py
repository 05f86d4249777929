"""Build gates: which builds a stage depends on, and the evidence that they are green."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.builds import BuildActivities
    from pipeline.model import BuildOutcome, BuildRequest, Failure, Proof, Stage
    from workflows import options
    from workflows.execution import Execution, Paused, Rank
    from workflows.faults import failure_of, fault_of, gather_all

Owed = tuple[str, Stage]
"""A build to verify, and the stage whose merge it belongs to."""

Evidence = tuple[str, str, tuple[str, ...], bool]
"""Build, commit, the builders' attempts that the commit holds, and whether it has to be clean."""


class BuildGates:
    """Verifies builds when something is about to depend on them, each only once.

    A stage needs every build of the stages before it, green on a commit that holds their merges;
    an `exact` one needs them on the very commit that it is given, and built clean: what is
    deployed or delivered must build in a fresh clone as well. A clean build serves both.
    """

    def __init__(
        self, execution: Execution, scope: str = "", proofs: tuple[Proof, ...] = ()
    ) -> None:
        """Share the execution with the workflow; `scope` sets its verifications apart."""
        self._execution = execution
        self._board = execution.board
        self._scope = scope
        self._verifications: dict[Evidence, asyncio.Task[BuildOutcome]] = {}
        self._proofs = list(proofs)
        self._has_news = False

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """The latest proof of each build: later heads contain earlier ones."""
        return tuple({proof.build: proof for proof in self._proofs}.values())

    def take(self, proofs: tuple[Proof, ...]) -> None:
        """Add proofs from another run or workflow."""
        self._proofs += [proof for proof in proofs if proof not in self._proofs]

    async def ensure(self, stage: Stage | None, *, exact: bool) -> tuple[Failure, ...]:
        """Verify what is not yet proven, in parallel; returns the failures of what is red.

        `stage` None asks for the whole plan. Nothing is proven of a builder that was reopened
        meanwhile: the caller looks whether it still stands on what it asked for.
        """
        # The head may move while builds run, and an exact gate stands on the head alone.
        while owed := self._owed(self._board.work.builders(stage), exact=exact):
            if failures := await self.verify(owed, clean=exact):
                return failures
        return ()

    async def verify(self, owed: Sequence[Owed], *, clean: bool = True) -> tuple[Failure, ...]:
        """Verify those builds on the head, in parallel; returns the failures of what is red.

        What was red is asked to be `clean`: what a kept checkout hides would only be red later.
        """
        outcomes = await asyncio.gather(*(self._verification(*one, clean=clean) for one in owed))
        failures = tuple(outcome.failure for outcome in outcomes if outcome.failure)
        if not failures and self._has_news:
            workflow.logger.info("✅ All parallel builds PASSED")
        if not failures:
            self._has_news = False  # several stages wait for the same builds
        return failures

    def forget_red(self) -> None:
        """Allow red builds to be verified again: a retry may have changed what they need."""
        for key, task in list(self._verifications.items()):
            found = _found(task)
            if found and not found.passed:
                del self._verifications[key]

    async def end(self) -> None:
        """Wait until cancelled builds have ended."""
        await gather_all(self._verifications.values())

    def _owed(self, builders: tuple[Stage, ...], *, exact: bool) -> list[Owed]:
        if not self._board.are_done(builders):
            return []
        return [
            (build, builder)
            for builder in builders
            for build in builder.builds
            if not self._is_proven(build, builders, exact=exact)
        ]

    def _is_proven(self, build: str, builders: tuple[Stage, ...], *, exact: bool) -> bool:
        required = set(self._board.work.revisions(builders))
        return any(
            proof.build == build
            and required <= set(proof.held)
            and (not exact or (proof.clean and proof.commit == self._board.commit))
            for proof in self._proofs
        )

    async def _verification(self, build: str, builder: Stage, *, clean: bool) -> BuildOutcome:
        found = (build, self._board.commit, self._board.work.built())
        # One that is under way or over serves as well, unless it was not as clean as it must be:
        # how clean it was is decided where the agents file is.
        for key in ((*found, True), (*found, False)):
            if self._is_under_way(key):
                outcome = await self._verifications[key]
                if outcome.clean or not (clean and outcome.passed):
                    return outcome
        key = (*found, clean)
        if not self._is_under_way(key):
            counts = self._execution.counts
            counts.builds += 1
            request = BuildRequest(
                self._execution.ref,
                build,
                builder.name,
                self._execution.order.pipeline.owner_of(build, builder),
                self._board.head,
                f"{self._scope}{counts.builds}",
                clean,
            )
            rank = (self._execution.position(builder), 0, counts.builds)
            verification = self._verify(request, rank, Proof(*found, clean))
            self._verifications[key] = self._execution.faults.detach(
                verification, f"build {build}", partial(self._fail, request)
            )
        return await self._verifications[key]

    def _is_under_way(self, key: Evidence) -> bool:
        """Whether that verification runs, or ended with a result that still counts."""
        task = self._verifications.get(key)
        return task is not None and not self._is_answered(task)

    def _is_answered(self, task: asyncio.Task[BuildOutcome]) -> bool:
        """Whether it was red, and the failure has been answered since; or was never answered."""
        if task.done() and (task.cancelled() or task.exception()):
            return True
        found = _found(task)
        failure = found.failure if found else None
        return failure is not None and not self._board.is_open(failure)

    async def _verify(self, request: BuildRequest, rank: Rank, proof: Proof) -> BuildOutcome:
        outcome = await self._build(request, rank)
        self._execution.heed(outcome.parallel, None)
        if outcome.passed:
            self._proofs.append(replace(proof, clean=outcome.clean))
            self._board.resolve(f"build {request.build}")
            self._has_news = True
        elif outcome.failure:
            builders = self._board.work.builders(None)
            if not self._is_proven(request.build, builders, exact=True):  # green on the head by now
                self._board.fail(outcome.failure)
        return outcome

    def _fail(self, request: BuildRequest, error: Exception) -> BuildOutcome:
        """An unforeseen error: nothing is known about the build, so a human is asked."""
        failure = fault_of(error, stage=request.stage, gate=f"build {request.build}")
        self._board.fail(failure)
        return self._red(request, failure)

    def _red(self, request: BuildRequest, failure: Failure) -> BuildOutcome:
        parallel = self._execution.serial_lock.parallel
        return BuildOutcome(request.build, request.commit, False, parallel, request.clean, failure)

    async def _build(self, request: BuildRequest, rank: Rank) -> BuildOutcome:
        """Build as soon as nothing holds it; a paused build leaves the serial lock to others."""
        return await self._execution.until_passed(partial(self._attempt, request, rank))

    async def _attempt(
        self, request: BuildRequest, rank: Rank, after: Paused | None
    ) -> BuildOutcome | Paused:
        execution, gate = self._execution, f"build {request.build}"
        request = replace(request, held=after.outage if after else None)
        async with execution.serial_lock.turn(rank):
            build = workflow.execute_activity_method(
                BuildActivities.verify_build,
                request,
                **options.tools(execution.host, execution.order, _summary(request)),
            )
            attempt = execution.attempt(build, gate, request.held, partial(self._lost, request))
            return await execution.resume(attempt, after)

    def _lost(self, request: BuildRequest, error: ActivityError) -> BuildOutcome:
        gate, owners = f"build {request.build}", (request.owner,)
        failure = failure_of(error, stage=request.stage, gate=gate, owners=owners)
        return self._red(request, failure)


def _summary(request: BuildRequest) -> str:
    clean = " in a clean clone" if request.clean else ""
    commit = f", commit {request.commit[:10]}" if request.commit else ""
    return f"Build {request.build} after {request.stage}{clean}{commit}"


def _found(task: asyncio.Task[BuildOutcome]) -> BuildOutcome | None:
    """The result of a verification; None while it runs, or if it was cancelled."""
    is_over = task.done() and not task.cancelled() and task.exception() is None
    return task.result() if is_over else None
