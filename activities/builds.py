"""Build verification: a build's exit code decides, on one exact commit."""

import logging
from dataclasses import replace
from functools import partial

from temporalio import activity

from activities.persistence import (
    letting_others_deliver,
    notify_others,
    publish_soon,
    publishing_what_lasts,
    subscriber,
    until_persisted,
)
from activities.retrying import step
from pipeline.failures import ERROR_LIMIT, cut, first_error_lines, signature
from pipeline.model import (
    BuildOutcome,
    BuildRequest,
    BuildResult,
    Failure,
    FailureKind,
    Hold,
    RunEnd,
)
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)


class BuildActivities:
    """Verifies builds on this host."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def verify_build(self, request: BuildRequest) -> BuildOutcome:
        """Build the commit and record the evidence; a repeat returns what was recorded.

        While something holds the requirement nothing is built: the outcome says what.

        Raises: DependencyUnavailable, ProjectMissing, ProjectRefused.
        """
        # Only this host has the agents file; the workflow states its minimum.
        clean = request.clean or not self._ports.agents().is_incremental(request.build)
        request = replace(request, clean=clean)
        async with letting_others_deliver(self._ports, request.ref.number):
            outcome = await self._open(request)
        if outcome is None:
            with publishing_what_lasts(self._ports, request.ref.number):
                async with step("check the commit out"):
                    directory = await self._checkout(request)
                async with step("build"):
                    result = await self._ports.builds.run(request, directory)
            outcome = _judge(request, result, self._ports.parallel)
            await until_persisted(
                self._ports, partial(self._ports.store.record_build, request, outcome, result)
            )
        publish_soon(self._ports, request.ref.number)
        return outcome

    async def _open(self, request: BuildRequest) -> BuildOutcome | None:
        """The recorded outcome, or one that is held; None if there is something to build."""
        self._ports.readiness.check()
        opened = await self._ports.store.open_build(request, subscriber())
        if not isinstance(opened, Hold):
            return opened
        await notify_others(self._ports)  # what is held has given its turn to deliver up
        return BuildOutcome(
            request.build,
            request.commit,
            passed=False,
            parallel=self._ports.parallel,
            clean=request.clean,
            hold=opened,
        )

    async def _checkout(self, request: BuildRequest) -> str:
        if request.head is None:
            return ""
        project = self._ports.project
        return await project.checkout_build(
            request.ref.number, request.build, request.commit, clean=request.clean
        )


def _judge(request: BuildRequest, result: BuildResult, parallel: bool) -> BuildOutcome:
    passed = result.end is RunEnd.EXITED and result.exit_code == 0
    failure = None if passed else _failure(request, result)
    if failure:
        log.error("❌ %s build failed:\n%s", request.owner, failure.error)
    return BuildOutcome(request.build, request.commit, passed, parallel, request.clean, failure)


def _failure(request: BuildRequest, result: BuildResult) -> Failure:
    reason = result.reason or f"The build exited with {result.exit_code}."
    lines = cut(first_error_lines(result.output), ERROR_LIMIT - len(reason) - 1)
    return Failure(
        stage=request.stage,
        kind=FailureKind.BUILD,
        gate=f"build {request.build}",
        owners=(request.owner,),
        error=f"{lines}\n{reason}".strip(),
        log_reference=result.log_reference,
        commit=request.commit,
        signature=signature(lines),
    )
