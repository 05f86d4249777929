"""Pauses: nothing new starts, agents may be suspended; work continues as the same runs."""

from adapters.sdlc.reader import SdlcReader
from pipeline.model import OPENING, PRE_EMPTION, RequirementState, StageState
from pipeline.pauses import ALL, PauseKind
from tests.cluster import Cluster, delivered
from tests.fakes import Script
from tests.flow.test_p0_gate import BUILD, JEN, LONG, ROY, until_held
from tests.flow.test_pre_emption import current_details, until_cancelled, until_suspended
from tests.orchestra_plans import FOUR, SOLO


async def test_paused_requirement_starts_nothing_and_continues_as_the_same_runs(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """Suspended first, then paused again; the commands were killed behind their commits.

    So they told nobody: a look at the cluster does.
    """
    await cluster.open({ROY: [LONG], JEN: [Script()]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(ROY)
    await cluster.until_running(JEN)
    await cluster.store.pause(cluster.number, PauseKind.SUSPEND, "ada")
    await cluster.scheduled_check()
    await until_suspended(cluster, cluster.number)
    await until_held(cluster, sdlc_reader, boundary=PRE_EMPTION)
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (
        RequirementState.HELD,
        f"pause of {cluster.number}",
    )
    assert f"starter.py unpause [{cluster.number}]" in await current_details(handle)
    await cluster.store.unpause(cluster.number, "bob")
    await cluster.scheduled_check()
    await until_suspended(cluster)

    await cluster.store.pause(cluster.number, PauseKind.PAUSE, "ada")
    await cluster.runs.let_end()
    await until_held(cluster, sdlc_reader, boundary=BUILD)
    assert sorted(cluster.runs.started()) == [ROY, JEN]
    await cluster.store.unpause(cluster.number, "ada")
    await cluster.scheduled_check()
    await delivered(handle)

    runs = await sdlc_reader.runs(cluster.number)
    assert {(run.attempt, run.state) for run in runs} == {(1, StageState.COMPLETED)}


async def test_what_is_started_while_all_is_paused_waits_and_can_be_cancelled(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    await cluster.store.pause(ALL, PauseKind.PAUSE, "ada")
    first = await cluster.start(SOLO)
    second = await cluster.start(SOLO, number=f"{cluster.number}-B")
    await until_held(cluster, sdlc_reader, first.id, second.id, boundary=OPENING)

    await first.cancel()
    await until_cancelled(first)
    assert cluster.runs.started() == []
    await cluster.store.unpause(ALL, "ada")
    await cluster.scheduled_check()
    await delivered(second)
