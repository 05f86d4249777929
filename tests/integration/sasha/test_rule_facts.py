"""Facts from a real database, and what an asker gets while there is none."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.rule_engine import RuleEngine
from adapters.sdlc.rule_facts import ANSWER_SECONDS, create_rule_facts
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.tables import BlockerRow
from pipeline.errors import DependencyUnavailable, UnknownRequirement
from pipeline.model import Extension, Priority, RequirementState, StageState
from pipeline.questions import Question, RequirementFacts, Verdict
from tests.eventually import PATIENCE_SECONDS, Stopwatch, eventually_async
from tests.fixtures_sdlc import PostgresServer
from tests.ports import own_port
from tests.sdlc_factory import RESEARCH, Requirement, an_order


async def facts_of(database_url: str, number: str) -> RequirementFacts:
    facts = create_rule_facts(database_url)
    try:
        return await facts.of(number)
    finally:
        await facts.close()


async def block(database_url: str, number: str, by: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        row = {"number": number, "round": 1, "blocked_by": by, "reason": "it must come first"}
        await connection.execute(insert(BlockerRow).values(created_at=datetime.now(UTC), **row))
    await engine.dispose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that works is waited for, however slow the machine is."""
    monkeypatch.setattr("adapters.sdlc.rule_facts.ANSWER_SECONDS", PATIENCE_SECONDS)


@pytest.mark.usefixtures("patient")
async def test_facts_show_the_run_and_its_extended_deadline(
    database_url: str, sdlc_store: PostgresSdlcStore
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    run_id = requirement.request(RESEARCH).run_id
    for minutes in (80, 70):  # a row that was written late does not count
        deadline = timedelta(minutes=minutes)
        extension = Extension(run_id, requirement.ref, RESEARCH, 20, deadline, "ada", "large")
        await sdlc_store.extend(extension)

    facts = await facts_of(database_url, "REQ-1")

    own = facts.of_agent("cynthia")
    assert own
    assert (own.state, own.attempt, own.run_id) == (StageState.RUNNING, 1, run_id)
    assert own.deadline == timedelta(minutes=80)
    roy = facts.of_agent("roy")
    assert roy
    assert roy.deadline == timedelta(minutes=60)
    assert (facts.state, facts.priority) == (RequirementState.RUNNING, Priority.P2)
    assert (facts.open_p0s, facts.fixes) == ((), {})


@pytest.mark.usefixtures("patient")
async def test_what_an_open_p0_waits_for_passes_its_gate(
    database_url: str, sdlc_store: PostgresSdlcStore
) -> None:
    for number in ("REQ-1", "REQ-2", "REQ-3"):
        await Requirement(sdlc_store, number).accept()
    await sdlc_store.accept(replace(an_order("REQ-9"), priority=Priority.P0), "Everything is down")
    await block(database_url, "REQ-9", by="REQ-1")
    await block(database_url, "REQ-1", by="REQ-2")
    await block(database_url, "REQ-2", by="REQ-1")  # no end, and found all the same

    found = [await facts_of(database_url, f"REQ-{number}") for number in (1, 2, 3, 9)]

    assert [facts.passes_p0_gate for facts in found] == [True, True, False, True]
    assert {facts.open_p0s for facts in found} == {("REQ-9",)}


@pytest.mark.usefixtures("patient")
async def test_an_unknown_number_is_said(database_url: str) -> None:
    for number in ("REQ-404", "REQ-" + "9" * 5_000):
        with pytest.raises(UnknownRequirement, match="There is no requirement REQ-"):
            await facts_of(database_url, number)


async def test_a_question_is_answered_while_the_database_is_down() -> None:
    nowhere = f"postgresql+psycopg://agog:secret@127.0.0.1:{own_port()}/agog"
    facts = create_rule_facts(nowhere)

    answer = await RuleEngine(facts).answer(Question("roy", "May I skip QA?", "REQ-1"))
    await facts.close()

    assert answer.decision.answer is Verdict.NO
    assert answer.source == "rules; the SDLC database cannot be reached"


async def test_a_silent_database_holds_nobody_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1]
        facts = create_rule_facts(f"postgresql+psycopg://agog:secret@127.0.0.1:{port}/agog")
        engine = RuleEngine(facts)

        with Stopwatch() as watch:
            for _ in range(100):
                answer = await engine.answer(Question("roy", "Am I on hold?", "REQ-1"))
                assert answer.decision.answer is Verdict.UNCLEAR
                assert answer.source == "rules; the SDLC database cannot be reached"

        # one of them has waited; the others were told what it had found
        assert watch.seconds < ANSWER_SECONDS + 2
        await facts.close()


@pytest.mark.usefixtures("patient")
async def test_the_source_names_what_was_known(
    database_url: str, sdlc_store: PostgresSdlcStore
) -> None:
    await Requirement(sdlc_store).begun()
    engine = RuleEngine(facts := create_rule_facts(database_url))

    answer = await engine.answer(Question("roy", "Is REQ-1 running?"))
    other = await engine.answer(Question("roy", "Is REQ-2 running?"))
    await facts.close()

    assert (answer.decision.answer, answer.source) == (Verdict.YES, "rules and the SDLC database")
    assert (other.decision.answer, other.source) == (
        Verdict.UNCLEAR,
        "rules; there is no requirement REQ-2",
    )


async def test_a_database_that_hung_is_known_again_when_it_goes_on(
    postgres_server: PostgresServer, database_url: str, sdlc_store: PostgresSdlcStore
) -> None:
    await Requirement(sdlc_store).begun()
    engine = RuleEngine(facts := create_rule_facts(database_url))
    question = Question("roy", "Is REQ-1 running?")
    known = "rules and the SDLC database"

    async def is_known() -> bool:
        return (await engine.answer(question)).source == known

    await eventually_async(is_known, "the facts")
    with hanging(postgres_server), Stopwatch() as watch:
        answers = await asyncio.gather(*(engine.answer(question) for _ in range(20)))
        assert {answer.source for answer in answers} == {
            "rules; the SDLC database cannot be reached"
        }
    assert watch.seconds < ANSWER_SECONDS + 2
    await eventually_async(is_known, "the facts again")
    await facts.close()


@contextmanager
def hanging(server: PostgresServer) -> Iterator[None]:
    """Every process of the server is stopped, its connections stay open."""
    assert server.process
    postmaster = psutil.Process(server.process.pid)
    postmaster.suspend()  # first: it starts no other one then
    processes = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it served somebody who is gone
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def test_nobody_waits_for_a_refused_connection() -> None:
    facts = create_rule_facts(f"postgresql+psycopg://agog@127.0.0.1:{own_port()}/agog")

    with pytest.raises(DependencyUnavailable):
        await facts.of("REQ-1")
    await facts.close()
