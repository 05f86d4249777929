"""`plan`: the schedule before anything runs, and how long and how dear it is likely to be.

No server is needed: without the SDLC database nothing is known of earlier runs, and it says so.
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from adapters.user_files import find_agents, read_text
from cli import output
from cli.estimates import Durations, basis, durations_without_server
from cli.estimates import document as estimated
from cli.inputs import PIPELINE_HELP, check_dollars, find_pipeline, known_pipelines
from cli.running import OK, AsJson, ExitCode, load_settings, run
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import AgentsFile
from pipeline.costs import dollars
from pipeline.durations import LEAST, Estimate, StageEstimate
from pipeline.durations import Source as Known
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.forecast import Forecast, Payer, Sample, Source, forecast
from pipeline.model import Mode
from pipeline.plan_file import read_durations
from pipeline.schedule import Schedule, plan_schedule, with_flags
from settings import Settings

EXAMPLES = {
    "plan": """
Examples:

  python starter.py plan --pipeline critical-path --flags needs_vic

  python starter.py plan --all --slots 2 --json

  python starter.py plan --budget 15
"""
}


def plan(
    pipeline: Annotated[str | None, typer.Option("--pipeline", help=PIPELINE_HELP)] = None,
    flags: Annotated[
        str, typer.Option("--flags", help="Flags that QA would raise: needs_todd,needs_vic.")
    ] = "",
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Agents at once; default: no bound.")
    ] = None,
    durations: Annotated[
        Path | None, typer.Option("--durations", help='TOML lines like "Backend QA" = 30.')
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One stage after another.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Dollars; exit code 1 if they are likely not to be enough."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Compare all pipelines.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show when each stage would run, and what that saves.

    Beside the pipeline file's minutes stands how long it is likely to take, by earlier runs in the
    SDLC database: half of such requirements end within the p50, four of five within the p80.

    With --budget also what it is likely to cost: by what earlier requirements did, as the SDLC
    database tells, else by expected_usd of the agents file. A budget is enough if four of five such
    requirements cost no more.
    """
    check_dollars("--budget", budget)
    if budget is not None and every:
        raise RefusedInput("--budget is for one pipeline: leave out --all.")
    minutes = (
        read_durations(read_text(durations, "Durations file"), str(durations)) if durations else {}
    )
    settings = load_settings()
    names = known_pipelines() if every else (pipeline or settings.pipeline,)
    pipelines = [find_pipeline(name) for name in names]
    mode = Mode.SEQUENTIAL if sequential else Mode.PARALLEL
    raised = frozenset(filter(None, map(str.strip, flags.split(","))))
    schedules = [
        plan_schedule(each, mode=mode, flags=raised, slots=slots, durations=minutes)
        for each in pipelines
    ]
    told: list[Estimate] = []
    learned = Durations(None)
    if not minutes:
        learned = run(durations_without_server(settings))
        told = [
            learned.of_plan(with_flags(each, raised), mode, is_certain=True, slots=slots)
            for each in pipelines
        ]
    likely = None if budget is None else run(likely_cost(settings, schedules[0]))
    if as_json:
        documents = [
            {**_document(schedule), "expected": estimated(each) if each else None}
            for schedule, each in zip_longest(schedules, told)
        ]
        cost = {} if likely is None else {"budget_usd": budget, "cost": cost_of(likely)}
        output.write_json({"plans": documents} if every else {**documents[0], **cost})
    elif every:
        _compare(schedules, told)
    else:
        _show(schedules[0], told[0] if told else None)
        if told and not told[0].is_learned:
            output.write(
                f"No stage has {LEAST} runs yet, so nothing else is known of its duration."
                if learned.was_read
                else "How long earlier runs took is not known: the SDLC database cannot be reached."
            )
    if likely is not None and budget is not None:
        if not as_json:
            show_cost(likely, budget)
        raise typer.Exit(OK if likely.is_enough(budget) else ExitCode.NOT_DELIVERED)


def _document(schedule: Schedule) -> Mapping[str, object]:
    """Figures first, stages last: the order in which people read."""
    fields = asdict(schedule)
    stages = fields.pop("stages")
    path = fields.pop("critical_path")
    return {**fields, "critical_path": path, "stages": stages}


def _show(schedule: Schedule, told: Estimate | None) -> None:
    is_learned = told is not None and told.is_learned
    learned = ("p50", "p80", "runs") if is_learned else ()
    rows = output.table(
        "stage", "agent", "start", "end", "", *learned, numbers=("start", "end", *learned)
    )
    of_stage = {each.stage: each for each in told.stages} if told else {}
    for stage in schedule.stages:
        each = of_stage.get(stage.stage)
        mark = "*" if stage.stage in schedule.critical_path else ""
        rows.add_row(
            f"{stage.stage}{mark}",
            stage.agent,
            f"{stage.start_minute:g}",
            f"{stage.end_minute:g}",
            output.bar(stage.start_minute, stage.end_minute, schedule.makespan_minutes),
            *(_known(each) if each and is_learned else ()),
        )
    console = output.data()
    console.print(f"Pipeline {schedule.pipeline}, {schedule.mode} (minutes; * critical path)")
    console.print(rows)
    console.print(
        f"{schedule.makespan_minutes:g} minutes instead of {schedule.sequential_minutes:g}:"
        f" {schedule.saved_minutes:g} saved, {schedule.percentage_saved}%."
        f" No schedule is shorter than the critical path's {schedule.critical_path_minutes:g}."
    )
    if told is None or not is_learned:
        return
    p50, p80 = output.duration(told.p50), output.duration(told.p80)
    said = f"By earlier runs, builds and repairs included: {p50} (p50), {p80} (p80)"
    output.write("; ".join((said, *basis(told))) + ".")


def _known(each: StageEstimate) -> tuple[str, str, str]:
    """How long the stage took, of how many runs; nothing of one of which too little is known."""
    if each.source is Known.FILE:
        return "", "", ""
    return output.duration(each.p50), output.duration(each.p80), str(each.runs)


_FIGURES: Mapping[str, str] = {
    "sequential": "sequential_minutes",
    "makespan": "makespan_minutes",
    "critical path": "critical_path_minutes",
    "saved": "saved_minutes",
    "% saved": "percentage_saved",
}


def _compare(schedules: list[Schedule], told: list[Estimate]) -> None:
    learned = ("p50", "p80") if any(each.is_learned for each in told) else ()
    rows = output.table("pipeline", *_FIGURES, *learned, numbers=(*_FIGURES, *learned))
    for schedule, each in zip_longest(schedules, told):
        figures = (getattr(schedule, name) for name in _FIGURES.values())
        times = [output.duration(each.p50), output.duration(each.p80)] if learned else []
        rows.add_row(schedule.pipeline, *(f"{figure:g}" for figure in figures), *times)
    output.data().print(rows)


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
