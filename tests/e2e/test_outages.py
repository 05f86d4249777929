"""NATS, the database, or both are away: nothing starts, nothing is lost, all is delivered."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from pipeline.model import DEPENDENCIES, IncidentEnd, RequirementState
from tests.e2e.outages import DATABASE, NATS, Absence, Outages
from tests.eventually import eventually
from tests.orchestra_plans import BACKEND, SOLO, repaired, team_of

RESEARCH = team_of("Research")
BUILT_EARLY = team_of("Backend", "Research")
"""Its build is not the last one, for which it would need the turn to deliver."""
SHORT, MINUTE = timedelta(seconds=9), timedelta(seconds=60)
SLOTS = "8"
NO_MORE_THAN_DOZENS = 150
"""Events of Temporal over one outage of a minute, of Sasha and of whoever is held."""


async def at_every_boundary(outages: Outages) -> None:
    """Requirements that stand before, at and behind every kind of step."""
    puppets, number = outages.puppets, outages.number
    puppets.hold(f"{number('AGENT')}.roy", f"{number('BUILD')}.backend")
    puppets.task(f"{number('AGENT')}.roy", files={"backend/roy.txt": "roy\n"})
    puppets.task(f"{number('BROKEN')}.backend", exit_code=1)
    puppets.hold(f"{number('BROKEN')}-FIX-1.roy")
    puppets.task(f"{number('BROKEN')}-FIX-1.roy", files={"backend/fix.txt": "fix\n"})
    puppets.task(f"{number('ASKS')}.roy", notice={"status": "FAILED"})
    puppets.task(f"{number('DONE')}.cynthia", files={"notes.txt": "cynthia\n"})
    puppets.hold(f"{number('DONE')}.cynthia")
    await outages.start("AGENT", SOLO)
    await outages.start("BROKEN", repaired(SOLO))
    await outages.start("ASKS", SOLO)
    await eventually(lambda: puppets.starts("roy", number("AGENT")) == 1, "an agent")
    await eventually(lambda: puppets.starts("roy", f"{number('BROKEN')}-FIX-1") == 1, "a fix")
    await outages.orchestra.until_state(RequirementState.BLOCKED, number("ASKS"))
    # These two take the slots of git and builds that a machine with two cores has.
    await outages.start("BUILD", BUILT_EARLY)
    await eventually(lambda: puppets.starts("backend", number("BUILD")) == 1, "a build")
    await outages.start("DONE", RESEARCH)
    await eventually(lambda: puppets.starts("cynthia", number("DONE")) == 1, "a last agent")


async def proceed_meanwhile(outages: Outages) -> None:
    """What runs comes to its end, what was accepted begins."""
    number = outages.number
    outages.puppets.task(f"{number('BROKEN')}.backend")
    outages.puppets.release(
        f"{number('AGENT')}.roy", f"{number('BUILD')}.backend", f"{number('BROKEN')}-FIX-1.roy"
    )
    outages.puppets.task(f"{number('ASKS')}.roy")
    outages.handles["NEW"] = await outages.orchestra.begin(number("NEW"))


async def survive(
    outages: Outages, names: Sequence[str], length: timedelta, *, kill: bool = False
) -> None:
    """Stand at every boundary while those are away, and come to a good end."""
    await outages.worker.start(MAX_PARALLEL_STAGES=SLOTS)
    await at_every_boundary(outages)
    with outages.deliveries_held():
        outages.puppets.release(f"{outages.number('DONE')}.cynthia")
        await outages.until_under_way("DONE", "deliver")
        await outages.orchestra.accept(SOLO, number=outages.number("NEW"))
        await outages.take_away(names)
        await proceed_meanwhile(outages)
        await asyncio.sleep(length.total_seconds() / 4)  # deliveries reach their target in it
    if kill:
        outages.worker.kill()
        assert await outages.worker.refuses() == 6
    await outages.lasted(length)
    absence = await outages.bring_back(names)
    if kill:
        await outages.worker.start(MAX_PARALLEL_STAGES=SLOTS)
    await outages.orchestra.retry(outages.handles["ASKS"], BACKEND)
    await outages.all_delivered()

    await outages.check_agents(absence)
    await outages.check_events()
    if not kill:
        await outages.check_holds(absence)
        await check_incidents(outages, absence)


async def check_incidents(outages: Outages, absence: Absence) -> None:
    """One for each server was repaired; a look at one that is just starting may be unlucky."""
    incidents = await outages.incidents(absence.names)
    components = sorted(DEPENDENCIES[name] for name in absence.names)
    assert sorted(each.component for each in incidents) == components, incidents
    assert {each.end for each in incidents} == {IncidentEnd.REPAIRED}
    assert all(absence.over < each.ended_at for each in incidents)


@pytest.mark.parametrize("name", [NATS, DATABASE])
async def test_short_outage_at_every_boundary(outages: Outages, name: str) -> None:
    await survive(outages, [name], SHORT)


async def test_worker_is_killed_while_both_are_away(outages: Outages) -> None:
    await survive(outages, [NATS, DATABASE], SHORT, kill=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [[NATS], [DATABASE], [NATS, DATABASE]], ids=" and ".join)
async def test_outage_of_a_minute_at_every_boundary(outages: Outages, names: list[str]) -> None:
    await survive(outages, names, MINUTE)

    lengths = [await outages.history_length()]
    lengths += [
        await outages.history_length(number) for number in map(outages.number, outages.handles)
    ]
    assert max(lengths) <= NO_MORE_THAN_DOZENS * len(names), lengths
