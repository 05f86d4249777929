"""What agents' programs tell of their runs is stored with them, and shown per stage."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import RequirementView
from cli.status import overview, status_document
from pipeline.costs import By
from pipeline.forecast import Sample
from pipeline.model import (
    NO_COST,
    ClosedRun,
    Cost,
    Ending,
    FailureKind,
    ProgramReport,
    RunEnd,
    RunResult,
    StageOutcome,
    StageState,
    Tokens,
)
from tests.sdlc_factory import BACKEND, CRITIQUE, RESEARCH, START, Requirement, a_failure, begin_fix

REPORT = ProgramReport(
    kind="claude-code",
    account="work",
    ending=Ending.NO_ANSWER,
    session="s-1",
    usage={"m-1": Tokens(input=900, output=50, cached=200), "m-2": Tokens(input=100)},
    cost_usd=0.25,
    asked_again=1,
)


UNPRICED = {"a-model-of-ours": Tokens(1000, 50)}
COST = Cost(Tokens(1000, 50, 200), 0.25)


def a_result(report: ProgramReport | None) -> RunResult:
    end = START + timedelta(minutes=5)
    return RunResult(RunEnd.EXITED, 1, "", "", START, end, 1, "runs/log", report=report)


def shown(view: RequirementView) -> str:
    text = StringIO()
    Console(width=140, file=text).print(overview(view))
    return text.getvalue()


async def close(
    store: PostgresSdlcStore,
    requirement: Requirement,
    attempt: int,
    report: ProgramReport,
    stage: str = RESEARCH,
) -> ClosedRun:
    repeated = (FailureKind.NOTICE,)
    request = replace(requirement.request(stage, attempt), repeated_after=repeated)
    await store.open_stage(request, request.ref.number)
    failure = a_failure(stage, kind=FailureKind.NOTICE)
    outcome = StageOutcome(stage, attempt, StageState.FAILED, None, True, failure=failure)
    closed = await store.close_stage(request, outcome, a_result(report), None, None)
    again = await store.close_stage(request, outcome, a_result(report), None, None)
    assert again.cost == closed.cost  # a repeat charges nothing again
    return closed


async def test_session_tokens_and_costs_are_stored_with_the_run(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()

    await close(sdlc_store, requirement, 1, REPORT)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.session, run.ending, run.asked_again) == ("s-1", "no_answer", 1)
    assert (run.cost, run.seconds) == (COST, 300)


async def test_a_stage_costs_what_all_its_attempts_did(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await close(sdlc_store, requirement, 1, REPORT)
    await close(sdlc_store, requirement, 2, replace(REPORT, session="s-2", cost_usd=1.5))

    view = await sdlc_reader.requirement("REQ-1")

    stages = {stage.stage: stage for stage in view.stages}
    assert stages[RESEARCH].cost == Cost(Tokens(2000, 100, 400), 1.75)
    assert stages[RESEARCH].session == "s-2"
    assert stages[BACKEND].cost == NO_COST
    document = status_document(view)
    assert (document["usd"], document["tokens"]) == (1.75, 2100)
    assert "Cost: 2,100 tokens (2,000 in, 400 of them cached, 100 out), $1.75" in shown(view)
    assert "2,100 $1.75" in " ".join(shown(view).split())


@pytest.mark.parametrize(
    ("usage", "cost", "told"),
    [
        pytest.param(  # 800 fresh tokens at $1.25 a million, 200 at $0.125, 50 at $10
            {"gpt-5-codex": Tokens(1000, 50, 200)},
            Cost(Tokens(1000, 50, 200), 0.001525, is_estimated=True),
            "50 out), ≈$0.0015; ≈ estimated from tokens",
            id="estimated",
        ),
        pytest.param(
            UNPRICED,
            Cost(Tokens(1000, 50), None, is_partial=True),
            f"50 out), unknown; not all is known of {RESEARCH}",
            id="unknown model",
        ),
        pytest.param(
            {"": Tokens(1000, 50)},
            Cost(Tokens(1000, 50), None, is_partial=True),
            "unknown",
            id="no model",
        ),
        pytest.param({}, NO_COST, "", id="nothing told"),
    ],
)
@pytest.mark.parametrize("said", [None, 0.0])
async def test_dollars_that_are_not_told_are_estimated_or_unknown_and_never_zero(
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    usage: Mapping[str, Tokens],
    cost: Cost,
    told: str,
    said: float | None,
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    report = replace(REPORT, kind="codex", usage=usage, cost_usd=said)
    closed = await close(sdlc_store, requirement, 1, report)

    expected = cost if usage or said is None else Cost(None, 0.0)
    assert closed.cost == expected
    view = await sdlc_reader.requirement("REQ-1")
    assert view.cost == view.stages[0].cost == expected
    assert told in shown(view)
    assert not usage or "$0.00 " not in shown(view)
    (event,) = [each for each in await sdlc_reader.events("REQ-1") if "failed" in each.type]
    assert event.payload.get("usd") == expected.usd
    assert event.payload.get("usdIsEstimated", False) is expected.is_estimated


async def test_what_a_session_has_cost_before_is_charged_once(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """Codex tells the sum over its thread, also in a run that resumes it."""
    requirement = await Requirement(sdlc_store).begun()
    whole = (Tokens(1000, 50, 200), Tokens(3000, 200, 900), Tokens(3500, 210, 900))
    for nth, tokens in enumerate(whole, 1):
        usage = {"gpt-5-codex": tokens}
        report = replace(REPORT, usage=usage, counts_session=True, cost_usd=None)
        await close(sdlc_store, requirement, nth, report)

    runs = await sdlc_reader.runs("REQ-1")
    assert [run.cost.tokens for run in runs] == [
        Tokens(1000, 50, 200),
        Tokens(2000, 150, 700),
        Tokens(500, 10, 0),
    ]
    view = await sdlc_reader.requirement("REQ-1")
    assert view.cost.tokens == whole[-1]
    # 2,600 fresh tokens at $1.25 a million, 900 at $0.125, 210 at $10
    assert view.cost.usd == pytest.approx(0.0054625)


async def test_a_run_that_was_cancelled_is_charged(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    cancelled = replace(a_result(REPORT), end=RunEnd.CANCELLED)

    await sdlc_store.record_ends("REQ-1", {f"REQ-1/wf-1/{RESEARCH}/1": cancelled})

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.session, run.cost) == ("s-1", COST)


async def test_earlier_costs_are_those_of_whole_stages(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """Attempts count together, what is not known whole not at all, and fixes apart."""
    ours, other = Requirement(sdlc_store), Requirement(sdlc_store, "REQ-2")
    await close(sdlc_store, await ours.begun(), 1, REPORT)
    await close(sdlc_store, ours, 2, REPORT)
    await close(sdlc_store, ours, 1, replace(REPORT, usage=UNPRICED, cost_usd=None), CRITIQUE)
    await close(sdlc_store, await other.begun(), 1, replace(REPORT, cost_usd=2.0))
    await other.run(BACKEND)
    fix = await begin_fix(ours)
    await close(sdlc_store, fix, 1, replace(REPORT, cost_usd=1.0), BACKEND)
    for each in (fix, ours, other):
        await each.close()

    samples, fixes = await sdlc_reader.recorded_costs()

    assert sorted(samples, key=lambda each: each.usd) == [
        Sample(RESEARCH, "cynthia", "claude-code", 0.5),
        Sample(RESEARCH, "cynthia", "claude-code", 2.0),
    ]
    assert sorted(fixes) == [0.0, 1.0]


async def test_costs_are_summed_by_what_runs_have_in_common(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    """A fix costs the requirement that it repairs."""
    ours, other = Requirement(sdlc_store), Requirement(sdlc_store, "REQ-2")
    await close(sdlc_store, await ours.begun(), 1, REPORT)
    await close(sdlc_store, await other.begun(), 1, replace(REPORT, account="night", cost_usd=2.0))
    await other.fail(BACKEND)  # its program tells nothing: it is not listed
    fix = await begin_fix(ours)
    await close(sdlc_store, fix, 1, replace(REPORT, cost_usd=1.0), BACKEND)

    async def by(key: By, number: str | None = None) -> dict[str, float | None]:
        return {line.key: line.cost.usd for line in await sdlc_reader.costs(key, number)}

    assert await by(By.REQUIREMENT) == {"REQ-2": 2.0, "REQ-1": 1.25}
    assert await by(By.STAGE, "REQ-1") == {BACKEND: 1.0, RESEARCH: 0.25}
    assert await by(By.AGENT) == {"cynthia": 2.25, "roy": 1.0}
    assert await by(By.ACCOUNT) == {"night": 2.0, "work": 1.25}
    assert await by(By.DAY) == {"2026-01-05": 3.25}
    assert len(await by(By.RUN)) == 3
    later = START + timedelta(days=1)
    assert await sdlc_reader.costs(By.DAY, since=later) == ()
    view = await sdlc_reader.requirement("REQ-1")
    assert (view.cost.usd, [each.cost.usd for each in view.fixes]) == (1.25, [1.0])
    listed = {each.number: each.cost.usd for each in await sdlc_reader.requirements()}
    assert listed == {"REQ-1": 1.25, "REQ-2": 2.0, fix.number: 1.0}
