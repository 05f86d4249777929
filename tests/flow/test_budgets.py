"""A budget that is spent holds what counts in it, and continues with it once it is raised."""

from dataclasses import replace

from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalNotifier
from pipeline.model import RequirementState
from tests.accounts import CLAUDE, WORKS, by
from tests.cluster import NO_REPAIR, REPAIR, Cluster, delivered, until
from tests.flow.test_p0_gate import until_held
from tests.flow.test_pre_emption import current_details
from tests.orchestra_plans import FIVE, SOLO

BACKEND, FRONTEND = "Backend Implementation", "Frontend Implementation"
PAID = replace(WORKS, usd=6.0)
HELD_TO = by(replace(CLAUDE, max_budget_usd=8.0))


async def raised(cluster: Cluster, number: str, usd: float, *, of_day: bool = False) -> None:
    """What the command `decide … raise-budget` does."""
    await cluster.store.raise_budget(number, usd, "ada", of_day=of_day)
    await TemporalNotifier(cluster._client).notify(await cluster.store.to_notify())


async def asked(cluster: Cluster, *numbers: str) -> list[str]:
    found = [ask for number in numbers for ask in await cluster.escalations(number)]
    return [str(ask["eventType"]) for ask in found]


async def test_requirement_stops_before_the_next_start_and_continues_when_it_is_raised(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """Research leaves $4: one implementer may cost that, the other waits; then QA is stopped."""
    lasting, qa = replace(PAID, usd=1.0, lasts=True), replace(PAID, usd=3.0)
    scripts = {"Research": [PAID], BACKEND: [lasting], FRONTEND: [lasting]}
    await cluster.open({**scripts, "Backend QA": [qa], "Frontend QA": [qa]}, agents=HELD_TO)
    handle = await cluster.start(FIVE, bounds=replace(NO_REPAIR, usd=10.0))
    await until(lambda: _waits_for_room(sdlc_reader, cluster.number), "the other one waits")
    assert [order.most_usd for order in cluster.runs.orders] == [8.0, 4.0]
    assert "Cost of its stages: $6.00" in await current_details(handle)

    await cluster.runs.let_end()
    await until(lambda: _is_asked(cluster), "a human is asked")
    await until_held(cluster, sdlc_reader)
    view = await sdlc_reader.requirement(cluster.number)
    assert [order.most_usd for order in cluster.runs.orders][2:] == [3.0, 2.0]
    assert view.state is RequirementState.HELD
    assert f"decide {cluster.number} raise-budget" in view.reason
    await raised(cluster, cluster.number, 30.0)
    await delivered(handle)

    assert await asked(cluster, cluster.number) == ["budget.escalation"]
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.cost.usd, view.fixes) == (14.0, ())


async def _is_asked(cluster: Cluster) -> bool:
    return bool(await asked(cluster, cluster.number))


async def _waits_for_room(reader: SdlcReader, number: str) -> bool:
    holds = (await reader.requirement(number)).holds
    return any("running agents may cost" in hold.reason for hold in holds)


async def test_fix_is_held_by_the_budget_of_what_it_repairs(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({BACKEND: [PAID]}, {"backend": [2, 0]}, agents=by(CLAUDE))
    handle = await cluster.start(SOLO, bounds=replace(REPAIR, usd=5.0))
    fix = f"{cluster.number}-FIX-1"
    await until(lambda: _is_out(sdlc_reader, cluster.number), "its fix is held")
    assert len(await asked(cluster, cluster.number, fix)) == 1
    await raised(cluster, fix, 50.0)
    await delivered(handle)

    view = await sdlc_reader.requirement(cluster.number)
    assert [each.number for each in view.fixes] == [fix]


async def _is_out(reader: SdlcReader, number: str) -> bool:
    return (await reader.requirement(number)).is_out_of_budget


async def test_day_holds_all_requirements_with_one_question(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.store.set_day_budget(5.0, None)
    await cluster.open({BACKEND: [PAID]}, agents=by(CLAUDE))
    await delivered(await cluster.start(SOLO))
    late = [f"{cluster.number}-{nth}" for nth in range(3)]
    handles = [await cluster.start(SOLO, number=number) for number in late]
    await until_held(cluster, sdlc_reader, *late, boundary=BACKEND)

    assert await asked(cluster, *late) == ["budget.escalation"]
    views = [await sdlc_reader.requirement(number) for number in late]
    assert all(view.holds[0].until for view in views)
    await raised(cluster, late[0], 100.0, of_day=True)
    await delivered(*handles)
