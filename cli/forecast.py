"""What a requirement is likely to cost: read, and shown by `plan`."""

from collections.abc import Mapping
from dataclasses import asdict

from adapters.user_files import find_agents
from cli import output
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import AgentsFile
from pipeline.costs import dollars
from pipeline.errors import DependencyUnavailable
from pipeline.forecast import Forecast, Payer, Sample, Source, forecast
from pipeline.schedule import Schedule
from settings import Settings


async def likely_cost(settings: Settings, schedule: Schedule) -> Forecast:
    """The likely cost of a schedule's stages; without the database, by the agents file alone."""
    agents = find_agents(settings.agents_file)
    samples, fixes = await _recorded(settings)
    payers = [_payer(agents, stage.stage, stage.agent) for stage in schedule.stages]
    return forecast(payers, samples, fixes)


async def _recorded(settings: Settings) -> tuple[tuple[Sample, ...], tuple[float, ...]]:
    from cli.connections import records  # `plan` alone needs no database driver

    try:
        async with records(settings) as reader:
            return await reader.recorded_costs()
    except DependencyUnavailable as error:
        output.say(f"Earlier costs are not known, the agents file alone is asked: {error}")
        return (), ()


def _payer(agents: AgentsFile, stage: str, agent: str) -> Payer:
    found = agents.agent(agent)
    kind = found.kind if isinstance(found, ProgramAgent) else ""
    return Payer(stage, agent, kind, agents.run_budget(agent).expected)


def cost_of(likely: Forecast) -> Mapping[str, object]:
    """The JSON of a likely cost."""
    return {
        "p50_usd": likely.p50,
        "p80_usd": likely.p80,
        "fixes_p80_usd": likely.fixes_p80,
        "unknown": likely.unknown,
        "stages": [asdict(stage) for stage in likely.stages],
    }


def show_cost(likely: Forecast, budget: float) -> None:
    """Each stage's likely cost, that of all, and whether the budget is enough."""
    rows = output.table("stage", "agent", "p50", "p80", "from", numbers=("p50", "p80"))
    for stage in likely.stages:
        runs = f" ({stage.samples})" if stage.samples else ""
        rows.add_row(
            stage.stage,
            stage.agent,
            "" if stage.p50 is None else dollars(stage.p50),
            "" if stage.p80 is None else dollars(stage.p80),
            f"{stage.source}{runs}",
        )
    if likely.fixes_p80 is not None:
        rows.add_row("fixes", "", "", dollars(likely.fixes_p80), "earlier requirements")
    output.data().print(rows)
    if likely.unknown:
        output.write(
            f"Nothing is known of {', '.join(likely.unknown)}: expected_usd in the agents file says"
            " what a run costs."
        )
    least = "at least " if likely.unknown else ""
    if all(stage.source is Source.UNKNOWN for stage in likely.stages):
        output.write(f"Whether {dollars(budget)} are enough is not known.")
        return
    fits = "is enough" if likely.is_enough(budget) else "is not enough"
    if likely.unknown and likely.is_enough(budget):
        fits = "is enough for what is known"
    output.write(
        f"Likely cost: {least}{dollars(likely.p50)} (p50), {dollars(likely.p80)} (p80)."
        f" A budget of {dollars(budget)} {fits}."
    )
