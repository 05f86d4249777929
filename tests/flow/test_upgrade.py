"""Two builds of the worker, both up: what runs stays on its own, what starts takes the new one."""

import pytest
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest

from adapters.temporal.deployment import Build, builds, make_current, offer_build
from pipeline.errors import RefusedInput
from tests.cluster import Cluster, delivered, is_looked_after
from tests.fakes import Script
from workflows import continuing

RESEARCH = "Research"
LASTS = {RESEARCH: [Script(lasts=True)]}


async def test_requirement_ends_on_the_build_that_it_was_started_on(
    cluster: Cluster, other: Cluster
) -> None:
    client, installation = cluster.identity.client, cluster.installation
    await cluster.open(LASTS, build_id="1")
    await offer_build(client, installation, "1")
    old = await cluster.start()
    await cluster.until_running(RESEARCH)
    await other.open(build_id="2")
    await offer_build(client, installation, "2")
    assert [build.id for build in await builds(client, installation) if build.is_current] == ["1"]

    await make_current(client, installation, "2", waits_for_worker=True)
    await delivered(await other.start(number=f"{old.id}-new"))
    assert cluster.runs.started() == [RESEARCH]
    of_new = other.runs.started()
    await cluster.runs.let_end(old.id)
    await delivered(old)

    assert other.runs.started() == of_new
    assert sorted(cluster.runs.started()) == sorted(of_new)
    assert await builds(client, installation) == (
        Build("2", is_current=True, note=""),
        Build("1", is_current=False, note="its requirements are still running"),
    )


async def test_build_is_current_everywhere_once_that_is_said(
    cluster: Cluster, other: Cluster
) -> None:
    """The server tells its own parts of it one after another."""
    client, installation = cluster.identity.client, cluster.installation
    await cluster.open(build_id="1")
    await offer_build(client, installation, "1")
    await other.open(build_id="2")
    for build_id in ("2", "1", "2"):
        await make_current(client, installation, build_id, waits_for_worker=True)
        assert await is_known_everywhere(cluster)


async def is_known_everywhere(cluster: Cluster) -> bool:
    """Whether the server has told all of its parts which build is current."""
    client = cluster.identity.client
    answer = await client.workflow_service.describe_worker_deployment(
        DescribeWorkerDeploymentRequest(
            namespace=client.namespace, deployment_name=cluster.installation.deployment
        )
    )
    state = answer.worker_deployment_info.routing_config_update_state
    return state == RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED


@pytest.mark.parametrize("is_long", [False, True], ids=["a few events", "a long history"])
async def test_sasha_follows_to_the_current_build(
    is_long: bool, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, other: Cluster
) -> None:
    """Also when she has continued as new, which she does for ever."""
    client, installation = cluster.identity.client, cluster.installation
    monkeypatch.setattr(continuing, "EVENTS", 60 if is_long else 1_000)
    await cluster.open(build_id="1")
    await offer_build(client, installation, "1")
    await is_looked_after(cluster)
    while is_long and len(await cluster.chain(installation.sasha)) == 1:
        await is_looked_after(cluster)
    await other.open(build_id="2")

    await make_current(client, installation, "2", waits_for_worker=True)

    # Her workflow follows with its next task.
    while not other.cluster_care.looks:
        await is_looked_after(cluster, other)
    await cluster.close()
    await is_looked_after(other)


async def test_build_that_no_worker_has_cannot_become_current(cluster: Cluster) -> None:
    client, installation = cluster.identity.client, cluster.installation
    assert await builds(client, installation) == ()
    with pytest.raises(RefusedInput, match="AGOG_WORKER_BUILD_ID=3 first"):
        await make_current(client, installation, "3")
    await cluster.open(build_id="1")
    await offer_build(client, installation, "1")

    with pytest.raises(RefusedInput, match="AGOG_WORKER_BUILD_ID=3 first"):
        await make_current(client, installation, "3")

    assert [build.id for build in await builds(client, installation)] == ["1"]


async def test_requirement_from_before_the_first_build_continues_with_it(cluster: Cluster) -> None:
    client, installation = cluster.identity.client, cluster.installation
    await cluster.open(LASTS)
    handle = await cluster.start()
    await cluster.until_running(RESEARCH)
    await cluster.close()

    await cluster.open(build_id="1")
    await offer_build(client, installation, "1")

    await delivered(handle)


async def test_builds_can_be_left_again(cluster: Cluster, other: Cluster) -> None:
    client, installation = cluster.identity.client, cluster.installation
    await cluster.open(build_id="1")
    await offer_build(client, installation, "1")
    await delivered(await cluster.start())
    await is_looked_after(cluster)
    await make_current(client, installation, "")

    await other.open()

    while not other.cluster_care.looks:
        await is_looked_after(cluster, other)
    await cluster.close()
    await delivered(await other.start(number=f"{cluster.number}-later"))
