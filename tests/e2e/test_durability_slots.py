"""Slots of a host: over all requirements, also those that a killed worker gave out."""

from pipeline.model import RequirementState
from tests.eventually import eventually
from tests.orchestra import Orchestra
from tests.orchestra_plans import PAIR

SLOTS = 2
REQUIREMENTS = 5


async def test_never_more_agents_than_slots_whatever_happens_to_the_worker(
    orchestra: Orchestra,
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    slots = {"MAX_PARALLEL_STAGES": str(SLOTS)}
    await orchestra.worker.start(**slots)
    handles = [
        await orchestra.start(PAIR, number=f"{orchestra.number}-{n}") for n in range(REQUIREMENTS)
    ]
    for handle in handles:
        await orchestra.until_taken(handle, stages=2)
    await eventually(lambda: len(puppets.living()) == SLOTS, "as many agents as slots")

    orchestra.worker.kill()
    before = [await orchestra.attempts(handle) for handle in handles]
    await orchestra.worker.start(**slots)
    for handle, attempts in zip(handles, before, strict=True):
        await orchestra.until_taken_over(handle, 2, attempts)
    assert len(puppets.living()) == SLOTS
    puppets.release("roy", "jen")
    reports = [await handle.result() for handle in handles]

    assert {report.state for report in reports} == {RequirementState.DELIVERED}
    assert puppets.most_at_once() == SLOTS
    assert puppets.starts("roy") == puppets.starts("jen") == REQUIREMENTS
