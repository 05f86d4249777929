"""Whoever waits for a slot when a dependency goes away does not start without it."""

from datetime import timedelta

from pipeline.model import RequirementState
from pipeline.plan_rules import DELIVER
from tests.e2e.outages import DATABASE, NATS, Outages
from tests.eventually import eventually
from tests.orchestra_plans import BACKEND, SOLO

AWAY = (NATS, DATABASE)
SHORT = timedelta(seconds=9)


async def test_slot_that_becomes_free_meanwhile_starts_nobody(outages: Outages) -> None:
    puppets, number = outages.puppets, outages.number
    puppets.hold("roy")
    await outages.worker.start(MAX_PARALLEL_STAGES="1")
    await outages.start("FIRST", SOLO)
    await eventually(lambda: puppets.starts("roy", number("FIRST")) == 1, "an agent")
    await outages.start("SECOND", SOLO)
    await outages.orchestra.until_state(RequirementState.RUNNING, number("SECOND"))
    await outages.until_under_way("SECOND", "wait_for_slot")

    await outages.take_away(AWAY)
    for name in AWAY:
        await eventually(
            lambda name=name: f"{name} is down" in outages.worker.log,  # type: ignore[misc] # bound per name
            f"the outage of {name} that is seen",
        )
    puppets.release("roy")
    await eventually(lambda: puppets.ends("roy", number("FIRST")) == 1, "a free slot")
    await outages.lasted(SHORT)
    assert puppets.starts("roy") == 1
    absence = await outages.bring_back(AWAY)
    await outages.all_delivered()

    await outages.check_agents(absence)
    await outages.check_events()
    await outages.check_holds(absence)
    holds = await outages.orchestra.reader.holds(number("SECOND"))
    assert {hold.boundary for hold in holds} - {DELIVER} == {BACKEND}  # both end at once
