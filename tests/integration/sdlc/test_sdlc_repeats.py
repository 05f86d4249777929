"""Every write may be repeated by an activity: the second time changes nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.tables import Base
from pipeline.model import Extension, RequirementState, StageContext
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    QA,
    RESEARCH,
    SECURITY,
    Requirement,
    a_failure,
)

Step = Callable[[Requirement], Awaitable[object]]


async def _extend(requirement: Requirement, minutes: int = 70) -> None:
    run_id, deadline = requirement.request(RESEARCH).run_id, timedelta(minutes=minutes)
    extension = Extension(run_id, requirement.ref, RESEARCH, 10, deadline, "ann", "slow")
    await requirement.store.extend(extension)


async def _nothing(requirement: Requirement) -> None:
    pass


async def _open_research(requirement: Requirement) -> None:
    await requirement.open_stage(RESEARCH)


async def _before_blocking(requirement: Requirement) -> None:
    await requirement.run(RESEARCH)
    await requirement.fail(CRITIQUE)


async def _blocked(requirement: Requirement) -> None:
    await _before_blocking(requirement)
    await _block(requirement)


async def _block(requirement: Requirement) -> None:
    failure = a_failure(CRITIQUE, f"run {CRITIQUE}")
    await requirement.block(failure, blocked=(BACKEND, FRONTEND, QA))


STEPS: dict[str, tuple[Step, Step]] = {
    "open requirement": (_nothing, lambda r: r.open()),
    "open stage": (_nothing, lambda r: r.open_stage(RESEARCH)),
    "close stage": (_open_research, lambda r: r.close_stage(RESEARCH)),
    "close failed stage": (_open_research, lambda r: r.fail(RESEARCH)),
    "skip stage": (_nothing, lambda r: r.skip(SECURITY)),
    "open build": (_nothing, lambda r: r.open_build()),
    "record build": (_nothing, lambda r: r.build()),
    "record red build": (_nothing, lambda r: r.build(passed=False)),
    "block": (_before_blocking, _block),
    "reopen": (_blocked, lambda r: r.reopen(CRITIQUE, BACKEND, FRONTEND, QA)),
    "extend": (_open_research, _extend),
    "deliver": (_nothing, lambda r: r.close()),
    "cancel": (_open_research, lambda r: r.close(RequirementState.CANCELLED)),
}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("name", STEPS)
async def test_repeat_changes_no_row(
    sdlc_store: PostgresSdlcStore, engine: AsyncEngine, name: str
) -> None:
    prepare, step = STEPS[name]
    requirement = await Requirement(sdlc_store).begun()
    await prepare(requirement)

    await step(requirement)
    once = await _all_rows(engine)
    await step(requirement)

    assert once == await _all_rows(engine)


async def test_repeated_opening_tells_the_agent_the_same(sdlc_store: PostgresSdlcStore) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH)

    told = await requirement.open_stage(CRITIQUE)
    assert told == await requirement.open_stage(CRITIQUE)

    await requirement.close_stage(CRITIQUE)
    again = await requirement.open_stage(CRITIQUE)
    assert isinstance(again, StageContext)
    assert again.started_at
    assert told == replace(again, started_at=None, base_commit="")


async def test_second_extension_is_no_repeat(
    sdlc_store: PostgresSdlcStore, engine: AsyncEngine
) -> None:
    requirement = await Requirement(sdlc_store).begun()

    await _extend(requirement, 70)
    await _extend(requirement, 80)

    assert len((await _all_rows(engine))["extensions"]) == 2


async def test_answer_is_recorded_once_even_when_it_is_repeated_late(
    sdlc_store: PostgresSdlcStore, engine: AsyncEngine
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await _blocked(requirement)
    await requirement.reopen(CRITIQUE, BACKEND, FRONTEND, QA, answer=1)
    await requirement.fail(CRITIQUE, 2)
    await requirement.block(a_failure(CRITIQUE, f"run {CRITIQUE}"), round_=2)
    blocked_again = await _all_rows(engine)

    await requirement.reopen(CRITIQUE, BACKEND, FRONTEND, QA, answer=1)
    await _block(requirement)

    assert blocked_again == await _all_rows(engine)


async def _all_rows(engine: AsyncEngine) -> dict[str, list[tuple[object, ...]]]:
    async with engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, await connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }
