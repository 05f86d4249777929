import json

import pytest

from tests.cluster import Cluster, delivered, until
from tests.fakes import Script

STANDARD = [
    "Research",
    "Critique",
    "Backend Implementation",
    "Frontend Implementation",
    "Backend QA",
    "Frontend QA",
    "Security Testing",
    "Statistics",
    "DevOps Deployment",
    "Documentation Update",
]
VIC = {"Frontend QA": [Script({"needs_vic": True})]}


@pytest.mark.parametrize("sequential", [False, True])
async def test_stages_start_in_the_order_of_their_needs(cluster: Cluster, sequential: bool) -> None:
    await cluster.open(VIC)

    await cluster.deliver(sequential=sequential)

    assert sorted(cluster.runs.started()[2:4]) == STANDARD[2:4]
    assert sorted(cluster.runs.started()[4:6]) == STANDARD[4:6]
    assert cluster.runs.started()[:2] + cluster.runs.started()[6:] == STANDARD[:2] + STANDARD[6:]


async def test_both_start_before_either_completes(cluster: Cluster) -> None:
    """Neither ends here before both have started: if one waited for the other, none would end."""
    pairs = STANDARD[2:4], STANDARD[4:6]
    await cluster.open({stage: [Script(lasts=True)] for pair in pairs for stage in pair})
    handle = await cluster.start()
    for pair in pairs:
        for stage in pair:
            await cluster.until_running(stage)
        await cluster.runs.let_end(*pair)
    await delivered(handle)

    events = [(e["eventType"], e.get("stage")) for e in await cluster.events()]
    for pair in pairs:
        starts = [events.index(("stage.started", stage)) for stage in pair]
        ends = [events.index(("stage.completed", stage)) for stage in pair]
        assert max(starts) < min(ends)


async def test_every_event_of_a_delivery_goes_out_once(cluster: Cluster) -> None:
    await cluster.open(VIC)
    await cluster.deliver()

    events = await cluster.events()
    types = [event["eventType"] for event in events]
    assert types[0] == "workflow.started"
    assert types[-2:] == ["workflow.completed", "workflow.performance"]
    assert len({event["eventId"] for event in events}) == len(events)
    assert {kind: types.count(kind) for kind in sorted(set(types))} == {
        "build.passed": 2,
        "build.started": 2,
        "group.completed": 8,
        "stage.completed": 10,
        "stage.skipped": 1,
        "stage.started": 10,
        "workflow.completed": 1,
        "workflow.performance": 1,
        "workflow.started": 1,
    }


async def test_only_the_flagged_specialist_runs(cluster: Cluster) -> None:
    await cluster.open(VIC)
    await cluster.deliver()

    (skipped,) = [e for e in await cluster.events() if e["eventType"] == "stage.skipped"]
    assert skipped["stage"] == "Performance Testing"
    assert "needs_todd" in skipped["reason"]
    assert "Performance Testing" not in cluster.runs.started()


async def test_group_of_skipped_stages_completes_with_none(day_cluster: Cluster) -> None:
    await day_cluster.open()
    await day_cluster.deliver()

    groups = [e for e in await day_cluster.events() if e["eventType"] == "group.completed"]
    completed = {e["group"]: e["stagesCompleted"] for e in groups}
    assert completed["Conditional Testing"] == 0
    assert completed["Implementation"] == 2
    assert {e["group"]: e["duration"] for e in groups}["Implementation"] == pytest.approx(
        3_600_000,
        abs=30_000,  # of real time, in which both of its stages start
    )


async def test_agent_is_told_of_its_upstream_and_of_nobody_else(cluster: Cluster) -> None:
    await cluster.open()
    await cluster.deliver()

    roy = cluster.runs.order("Backend Implementation").prompt
    tim = cluster.runs.order("Documentation Update").prompt
    assert "A description" in roy
    assert "Result of Research" in roy
    assert "Result of Critique" in roy
    assert "Result of Frontend Implementation" not in roy
    assert "Result of Performance Testing" not in tim
    assert "Result of Backend QA" in tim


async def test_conditions_of_the_critique_reach_both_implementers(cluster: Cluster) -> None:
    fixes = ["Check the tax", "Name the unit"]
    conditional = {"critique_verdict": "APPROVED_WITH_CONDITIONS", "required_fixes": fixes}
    await cluster.open({"Critique": [Script(conditional)]})
    await cluster.deliver()

    for stage in ("Backend Implementation", "Frontend Implementation"):
        assert all(f"- {fix}" in cluster.runs.order(stage).prompt for fix in fixes)


async def test_measured_savings_are_those_of_the_intervals(day_cluster: Cluster) -> None:
    # 45 + 30 + (60 ∥ 40) + (30 ∥ 45) + 90 + 15 + 30: 385 one after another, 315 as run
    await day_cluster.open(
        {
            "Frontend Implementation": [Script(minutes=40)],
            "Backend QA": [Script(minutes=30)],
        }
    )
    await day_cluster.deliver()

    performance = (await day_cluster.events())[-1]
    assert performance["eventType"] == "workflow.performance"
    # half a minute of real time may pass beside the work's own
    assert performance["sequentialTime"] == pytest.approx(385 / 60, abs=0.5 / 60)
    assert performance["parallelTime"] == pytest.approx(315 / 60, abs=0.5 / 60)
    assert performance["timeSaved"] == pytest.approx(70 / 60, abs=0.5 / 60)
    assert performance["percentageSaved"] == pytest.approx(18.2, abs=0.2)


async def test_sequential_mode_saves_exactly_nothing(day_cluster: Cluster) -> None:
    await day_cluster.open()
    await day_cluster.deliver(sequential=True)

    performance = (await day_cluster.events())[-1]
    assert (performance["timeSaved"], performance["percentageSaved"]) == (0.0, 0.0)


async def test_side_is_verified_as_soon_as_it_is_merged(cluster: Cluster) -> None:
    await cluster.open({"Backend Implementation": [Script(lasts=True)]})
    handle = await cluster.start("critical-path")

    async def is_verified() -> bool:
        return cluster.builds.built() == ["frontend"]

    await until(is_verified, "the frontend is verified while the backend is written")
    await cluster.runs.let_end()
    await delivered(handle)

    # the frontend alone, the backend on the merge of both, then what that merge made stale
    assert cluster.builds.built()[:2] == ["frontend", "backend"]
    assert cluster.builds.built().count("frontend") == 2
    assert cluster.builds.built().count("backend") == 1


async def test_history_of_a_delivery_stays_small(cluster: Cluster) -> None:
    await cluster.open()
    handle = await cluster.start()
    await handle.result()

    history = await handle.fetch_history()
    assert len(history.events) <= 110
    assert len(json.dumps(history.to_json_dict())) < 256 * 1024
