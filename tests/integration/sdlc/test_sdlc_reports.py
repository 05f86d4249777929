"""Reports read the rows that `status`, `costs` and the performance event are made of."""

from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.costs import By
from pipeline.errors import UnknownRequirement
from pipeline.history import WaitKind
from pipeline.model import FailureKind, Mode, RequirementState, StageState
from pipeline.report import requirement_report
from pipeline.time_spent import work_of
from tests.sdlc_factory import BACKEND, CRITIQUE, RESEARCH, Requirement, begin, begin_fix


async def repaired(store: PostgresSdlcStore) -> Requirement:
    """30, then 40, a red build of 5, its fix of 10, and a question to a human."""
    requirement = await Requirement(store).begun()
    await requirement.run(RESEARCH, minutes=30)
    await requirement.run(BACKEND, start=30, minutes=40)
    await requirement.build(start=70, minutes=5, passed=False)
    fix = await begin_fix(requirement)
    await fix.run(BACKEND, start=75, minutes=10)
    await fix.close()
    await requirement.block(await requirement.fail(CRITIQUE))
    return requirement


async def test_the_report_of_one_has_the_figures_of_its_status(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await repaired(sdlc_store)

    facts = await sdlc_reader.facts("REQ-1")
    performance = await sdlc_reader.performance("REQ-1")
    view = await sdlc_reader.requirement("REQ-1")
    costs = await sdlc_reader.costs(By.AGENT, "REQ-1")

    worked = sum(work_of(facts.history).values(), timedelta())
    assert worked.total_seconds() == performance.sequential_seconds == (85 + 30) * 60
    assert [(wait.kind, wait.end) for wait in facts.history.waits] == [(WaitKind.HUMAN, None)]
    assert facts.states == {stage.stage: stage.state for stage in view.stages}
    assert facts.history.opened_at is not None
    assert facts.history.ended_at is None
    agents = requirement_report(facts).agents
    assert {agent.agent: agent.runs for agent in agents} == {"cynthia": 1, "roy": 2, "sylvia": 1}
    assert {line.key: line.cost for line in costs} == {
        agent.agent: agent.cost for agent in agents if agent.cost.is_known
    }


async def test_the_report_of_many_has_the_figures_of_each(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await repaired(sdlc_store)
    second = await begin(sdlc_store, "REQ-2")
    await second.run(RESEARCH)
    await second.close(RequirementState.FAILED)

    rates = await sdlc_reader.rates()
    now = datetime.now(UTC)
    later = await sdlc_reader.rates(now + timedelta(hours=1))

    assert [each.number for each in rates.outcomes] == ["REQ-2", "REQ-1"]
    for each in rates.outcomes:
        alone = await sdlc_reader.performance(each.number)
        savings = each.performance.savings
        assert savings.sequential.total_seconds() == alone.sequential_seconds
        assert savings.parallel.total_seconds() == alone.parallel_seconds
        assert each.performance.queue.total_seconds() == alone.queue_seconds
    first = rates.outcomes[1]
    assert (first.mode, first.fixes, first.questions) == (Mode.PARALLEL, 1, 1)
    assert first.planned == timedelta(minutes=30 * 4)  # vic was not needed
    assert [(kind.kind, kind.unresolved) for kind in rates.kinds] == [(FailureKind.CRASH, 1)]
    agents = {line.agent: line for line in rates.agents}
    assert (agents["roy"].runs, agents["roy"].fixes) == (1, 1)
    assert agents["sylvia"].failure_percent == 100.0
    # what has not ended is told whatever the time
    assert [each.number for each in later.outcomes] == ["REQ-1"]


async def test_an_empty_database_gives_an_empty_report(sdlc_reader: SdlcReader) -> None:
    assert (await sdlc_reader.rates()).summary.requirements == 0
    with pytest.raises(UnknownRequirement, match="no requirement REQ-1"):
        await sdlc_reader.facts("REQ-1")


async def test_one_that_no_host_has_taken_has_a_report(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(sdlc_store).accept()

    report = requirement_report(await sdlc_reader.facts("REQ-1"))

    assert report.wall == timedelta()
    assert {stage.state for stage in report.stages} == {StageState.WAITING}
