"""A run that dies while it is suspended for a P0 is run again, as if it had never been."""

from pipeline.model import RunEnd
from tests.fakes import Script
from tests.house import House

RESEARCH = "Research"


async def test_runs_that_died_while_suspended_cost_no_try(house: House) -> None:
    died = Script(end=RunEnd.LOST, pre_empted=True)
    await house.open({RESEARCH: [died, died, died, Script()]})
    await house.deliver()

    assert house.runs.started().count(RESEARCH) == 4
    failed = [event for event in await house.events() if event["eventType"] == "stage.failed"]
    assert [event["action"] for event in failed] == ["RETRY"] * 3
    assert all("it was suspended for a P0" in event["error"] for event in failed)
