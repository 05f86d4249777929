"""What Sasha would find and do right now, by her own caretakers: they look, and are not let act."""

from collections.abc import Sequence
from dataclasses import dataclass

from temporalio.client import Client

from adapters.care.memory import MemoryCare
from adapters.runs.host import HostRuns
from adapters.runs.slot_limit import SlotLimit
from adapters.sdlc_store import create_store
from adapters.user_files import find_agents
from hosting.sasha import care_of_host, care_of_house
from pipeline.installation import Installation
from pipeline.model import Symptom, SymptomKind
from pipeline.remedies import findings
from settings import Settings
from workflows.sasha import HOUSE


@dataclass(frozen=True)
class Advice:
    """A symptom of a place, empty for the house, and how it would be treated."""

    place: str
    kind: SymptomKind
    component: str
    subject: str
    detail: str
    diagnosis: str
    action: str
    attempts: int
    escalates: bool


async def advice_on_house(
    settings: Settings, client: Client, installation: Installation
) -> tuple[Advice, ...]:
    """What is wrong with dependencies and records."""
    store = create_store(settings.database_url.get_secret_value())
    try:
        async with care_of_house(settings, client, installation, store) as house:
            return _advice(HOUSE, await house.look())
    finally:
        await store.close()


async def advice_on_host(
    settings: Settings, client: Client, installation: Installation
) -> tuple[Advice, ...]:
    """What is wrong with this host. Raises: RefusedInput for a bad agents file."""
    slots = SlotLimit(settings.home, settings.max_parallel_stages)
    memory = MemoryCare(settings.host, slots)
    agents = find_agents(settings.agents_file)
    runs = HostRuns(settings.home, agents, slots, settings.children_environment)
    async with care_of_host(settings, client, installation, runs, memory) as host:
        return _advice(settings.host, await host.look())


def _advice(place: str, symptoms: Sequence[Symptom]) -> tuple[Advice, ...]:
    return tuple(
        Advice(
            place,
            finding.symptom.kind,
            finding.symptom.component,
            finding.symptom.subject,
            finding.symptom.detail,
            finding.remedy.diagnosis,
            finding.remedy.action,
            finding.remedy.attempts,
            finding.remedy.escalates,
        )
        for finding in findings(symptoms)
    )
