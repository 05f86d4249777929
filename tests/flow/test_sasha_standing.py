"""Sasha says what she treats and who waits for it, while no row can say so."""

from cli.hints import sasha_standing
from pipeline.model import SashaStanding, Symptom, SymptomKind
from tests.fakes import Script
from tests.house import House, until
from tests.orchestra_plans import SOLO

NATS = Symptom(SymptomKind.NATS_DOWN, "nats", detail="No answer.")


async def test_standing_names_the_case_its_attempts_and_who_waits(house: House) -> None:
    await house.open({"Backend Implementation": [Script(minutes=1)]})
    house.cluster_care.symptoms = [NATS]
    house.cluster_care.cures = {}
    handle = await house.start(SOLO)
    seen: list[SashaStanding] = []

    async def is_treated() -> bool:
        if house.cluster_care.acts:
            seen.append(await sasha_standing(house._client, house.installation))
        return bool(seen and seen[-1].cases and seen[-1].cases[0].actions)

    await until(is_treated, "she acts")

    (case,) = seen[-1].cases
    assert (case.place, case.symptom.key) == ("", NATS.key)
    assert case.actions == ("act 1",)
    (waiting,) = seen[-1].waiting
    assert (waiting.dependency, waiting.callers) == ("NATS", (house.number,))

    house.cluster_care.cures = {NATS.kind: 1}
    house.cluster_care.symptoms = []
    await handle.result()

    async def is_idle() -> bool:
        return await sasha_standing(house._client, house.installation) == SashaStanding()

    await until(is_idle, "nothing is treated")
