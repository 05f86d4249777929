"""What agents' programs tell of their runs is stored with them, and shown per stage."""

from dataclasses import replace
from datetime import timedelta
from io import StringIO

from rich.console import Console

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import RequirementView
from cli.status import overview, status_document
from pipeline.model import (
    Ending,
    FailureKind,
    ProgramReport,
    RunEnd,
    RunResult,
    StageOutcome,
    StageState,
    Tokens,
)
from tests.sdlc_factory import BACKEND, RESEARCH, START, Requirement, a_failure

REPORT = ProgramReport(
    kind="claude-code",
    account="work",
    ending=Ending.NO_ANSWER,
    session="s-1",
    models=("m-1", "m-2"),
    tokens=Tokens(input=1000, output=50, cached=200),
    cost_usd=0.25,
    asked_again=1,
)


def a_result(report: ProgramReport | None) -> RunResult:
    end = START + timedelta(minutes=5)
    return RunResult(RunEnd.EXITED, 1, "", "", START, end, 1, "runs/log", report=report)


def shown(view: RequirementView) -> str:
    text = StringIO()
    Console(width=140, file=text).print(overview(view))
    return text.getvalue()


async def close(
    store: PostgresSdlcStore, requirement: Requirement, attempt: int, report: ProgramReport
) -> None:
    repeated = (FailureKind.NOTICE,)
    request = replace(requirement.request(RESEARCH, attempt), repeated_after=repeated)
    await store.open_stage(request, request.ref.number)
    failure = a_failure(RESEARCH, kind=FailureKind.NOTICE)
    outcome = StageOutcome(RESEARCH, attempt, StageState.FAILED, None, True, failure=failure)
    for _ in range(2):  # a repeat charges nothing again
        await store.close_stage(request, outcome, a_result(report), None, None)


async def test_session_tokens_and_costs_are_stored_with_the_run(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()

    await close(sdlc_store, requirement, 1, REPORT)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.session, run.ending, run.asked_again) == ("s-1", "no_answer", 1)
    assert (run.usd, run.tokens, run.seconds) == (0.25, 1050, 300)


async def test_a_stage_costs_what_all_its_attempts_did(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await close(sdlc_store, requirement, 1, REPORT)
    await close(sdlc_store, requirement, 2, replace(REPORT, session="s-2", cost_usd=1.5))

    view = await sdlc_reader.requirement("REQ-1")

    stages = {stage.stage: stage for stage in view.stages}
    assert (stages[RESEARCH].usd, stages[RESEARCH].tokens) == (1.75, 2100)
    assert stages[RESEARCH].session == "s-2"
    assert (stages[BACKEND].usd, stages[BACKEND].tokens) == (None, None)
    document = status_document(view)
    assert (document["usd"], document["tokens"]) == (1.75, 2100)
    assert "Cost: 2,100 tokens, $1.75" in shown(view)
    assert "2,100 $1.75" in " ".join(shown(view).split())


async def test_tokens_without_a_price_are_named(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await close(sdlc_store, requirement, 1, replace(REPORT, kind="codex", cost_usd=None))

    told = shown(await sdlc_reader.requirement("REQ-1"))

    assert f"Cost: 1,050 tokens, no dollars told (not told: {RESEARCH})" in told


async def test_a_run_that_was_cancelled_is_charged(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    cancelled = replace(a_result(REPORT), end=RunEnd.CANCELLED)

    await sdlc_store.record_ends("REQ-1", {f"REQ-1/wf-1/{RESEARCH}/1": cancelled})

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.session, run.usd, run.tokens) == ("s-1", 0.25, 1050)
