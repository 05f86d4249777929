"""Builds of the worker side by side: Temporal's Worker Deployment Versioning.

A worker with a build id takes the workflows, openings and records of that build alone. What starts
goes to the current build and stays on it; a host's own queues serve every build.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState, VersionDrainageStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from adapters.temporal.client import reaching_temporal
from pipeline.errors import RefusedInput
from pipeline.installation import Installation

log = logging.getLogger(__name__)

_KNOWN_WITHIN_SECONDS = 60.0
"""Seconds on an idle machine; on a crowded one 20 were too few."""
_NOT_SERVED = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
_ASK_AGAIN_SECONDS = 0.25

_DRAINAGE: Mapping[int, str] = {
    VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINING: "its requirements are still running",
    VersionDrainageStatus.VERSION_DRAINAGE_STATUS_DRAINED: "nothing runs on it: stop its workers",
}


@dataclass(frozen=True)
class Build:
    """A build that a worker has served, as Temporal knows it."""

    id: str
    is_current: bool
    note: str
    """Whether its workers may be stopped; empty while it is current or was never."""


def deployment_config(installation: Installation, build_id: str) -> WorkerDeploymentConfig | None:
    """What a Worker says of its build; None without a build id: it takes whatever comes."""
    if not build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(installation.deployment, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def builds(client: Client, installation: Installation) -> tuple[Build, ...]:
    """Every build that a worker of the installation has named, newest first.

    Raises: DependencyUnavailable.
    """
    with reaching_temporal(client):
        try:
            info = await _described(client, installation)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return ()
            raise
    current = info.routing_config.current_deployment_version.build_id
    known = sorted(info.version_summaries, key=lambda each: -each.create_time.ToNanoseconds())
    return tuple(
        Build(
            each.deployment_version.build_id,
            each.deployment_version.build_id == current,
            _DRAINAGE.get(each.drainage_status, ""),
        )
        for each in known
    )


async def _described(client: Client, installation: Installation) -> WorkerDeploymentInfo:
    request = DescribeWorkerDeploymentRequest(
        namespace=client.namespace, deployment_name=installation.deployment
    )
    answer = await client.workflow_service.describe_worker_deployment(request)
    return answer.worker_deployment_info


async def make_current(
    client: Client, installation: Installation, build_id: str, *, waits_for_worker: bool = False
) -> None:
    """Let what starts from now on go to that build.

    The server knows a build, and what its worker serves, a moment after the worker has started. It
    tells its own parts of a new one after another: what starts meanwhile may go to the one before.
    Raises: RefusedInput, DependencyUnavailable.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=installation.deployment,
        build_id=build_id,
        identity=client.identity,
    )
    passing = _NOT_SERVED if waits_for_worker else (RPCStatusCode.FAILED_PRECONDITION,)
    until = monotonic() + _KNOWN_WITHIN_SECONDS
    with reaching_temporal(client):
        while True:
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
                break
            except RPCError as error:
                if error.status not in _NOT_SERVED:
                    raise
                if error.status not in passing or monotonic() > until:
                    raise RefusedInput(
                        f"Build {build_id} cannot become current: {error.message}. Start a worker "
                        f"with AGOG_WORKER_BUILD_ID={build_id} first."
                    ) from error
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        await _until_told(client, installation)


async def _until_told(client: Client, installation: Installation) -> None:
    """Wait until every part of the server knows which build is current."""
    until = monotonic() + _KNOWN_WITHIN_SECONDS
    telling = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
    while (await _described(client, installation)).routing_config_update_state == telling:
        if monotonic() > until:
            log.warning(
                "Temporal still tells its parts of it: what starts now may go to another build"
            )
            return
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def offer_build(client: Client, installation: Installation, build_id: str) -> None:
    """Make the very first build current; of a later one, say how that is done.

    Without a current build no workflow would run. Raises: RefusedInput, DependencyUnavailable.
    """
    current = next((b.id for b in await builds(client, installation) if b.is_current), "")
    if not current:
        await make_current(client, installation, build_id, waits_for_worker=True)
        current = build_id
    if current == build_id:
        log.info("Build %s is current: requirements start on it", build_id)
    else:
        log.warning(
            "Build %s takes nothing new: requirements start on build %s. Switch with "
            "`starter.py rollout %s`",
            build_id,
            current,
            build_id,
        )
