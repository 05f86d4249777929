"""A plan with a team of its own: what is red goes to those whom its file declares."""

from adapters.sdlc.reader import SdlcReader
from pipeline.model import RequirementState
from tests.cluster import OF_ANY_TEAM, REPAIR, Cluster, ended
from tests.fakes import Script
from tests.repairs import BILLY, ROY, counts, fail

RON, MIA, ADA = "Orders Implementation", "Mobile Implementation", "Accessibility Testing"
MAX = "Mobile QA"


async def test_what_is_red_goes_to_the_agents_whom_the_plan_declares(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    by_ron = Script({"test_result": "FAIL", "failures": ["orders twice"], "owner": "ron"})
    scripts = {
        "Critique": [Script({"required_fixes": ["Name the unit."]})],
        MIA: [Script({"needs_ada": True})],
        BILLY: [by_ron, Script()],
        ADA: [fail("a button has no label"), Script()],
    }
    await cluster.open(scripts, {"orders": [2, 0], "mobile": [2, 0]}, agents=OF_ANY_TEAM)

    report = await ended(await cluster.start("monorepo", bounds=REPAIR))

    assert report.state is RequirementState.DELIVERED, report
    assert sorted((o.stage, o.agent) for o in cluster.runs.orders if o.stage[:4] == "Fix ") == [
        ("Fix build mobile", "mia"),
        ("Fix build orders", "ron"),
        (f"Fix verdict {ADA}", "mia"),
        (f"Fix verdict {BILLY}", "ron"),
    ]
    # A verdict on one side stands while the other one is changed.
    assert counts(cluster, ROY, RON, MIA, BILLY, MAX, ADA) == [1, 1, 1, 2, 2, 2]
    assert "Security Testing" not in cluster.runs.started()
    told = cluster.runs.order(RON).prompt
    assert "Name the unit." in told
    assert "Others implement this side as well, each in a clone of their own: roy." in told
    assert "You work on the service of orders alone" in told
    assert {s.agent for s in (await sdlc_reader.requirement(cluster.number)).stages} >= {"ada"}
