"""What earlier requirements took is read with one statement, and tells how long others will."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from cli.estimates import rest_of
from cli.report import read_report
from pipeline.durations import Kept, Source, Subject
from pipeline.model import Expected
from settings import Settings
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    RESEARCH,
    SECURITY,
    Requirement,
    an_order,
    begin,
    begin_fix,
)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(DATABASE_URL=database_url, AGOG_HOME=str(tmp_path / "home"), AGOG_HOST="host-1")


EXPECTED = Expected(6_000.0, 7_000.0, {}, is_learned=True)


async def merged_at_once(database_url: str) -> None:
    """The rows are written now; their runs ended in January."""
    plain = database_url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(plain) as connection:
        await connection.execute("UPDATE runs SET closed_at = ended_at")


async def delivered(store: PostgresSdlcStore, number: str, research: int) -> None:
    """Research of so many minutes, then 30 of the critic; roy runs twice, security is skipped."""
    requirement = Requirement(store, number)
    await store.accept(replace(an_order(number), expected=EXPECTED), "")
    await requirement.open()
    await requirement.run(RESEARCH, minutes=research)
    await requirement.run(CRITIQUE, start=60)
    await requirement.fail(BACKEND)  # 30 minutes from the start
    await requirement.run(BACKEND, 2, start=100, minutes=10)
    await requirement.build(start=110)
    fix = await begin_fix(requirement)
    await fix.run(BACKEND, start=115, minutes=4)
    await fix.close()
    await requirement.skip(SECURITY)
    await requirement.close()


async def test_rows_tell_how_long_everything_took_and_whether_p80_held(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, database_url: str
) -> None:
    for nth in range(5):
        await delivered(sdlc_store, f"REQ-{nth}", research=10 * (nth + 1))
    open_one = await begin(sdlc_store, "REQ-OPEN")
    await open_one.run(FRONTEND)
    await merged_at_once(database_url)

    told = await sdlc_reader.durations()

    def minutes(stage: str, agent: str) -> list[float]:
        return [each / 60 for each in told.stages[Subject("short", stage, agent, "")]]

    assert minutes(RESEARCH, "cynthia") == [50, 40, 30, 20, 10]  # the latest first
    assert minutes(BACKEND, "roy") == [10] * 5
    assert minutes(SECURITY, "vic") == [0] * 5
    assert minutes(FRONTEND, "jen") == [30]
    assert told.builds == {"build backend": [300] * 5}
    assert told.repairs == {"short": [34 * 60] * 5}  # what failed, and the fix
    # work: the longer of research and what failed beside it, then 30, 10, 5 and 4 minutes
    took = {f"REQ-{nth}": 60 * (max(30, 10 * (nth + 1)) + 49) for nth in range(5)}
    assert {each.number: each.took for each in told.kept} == took
    assert told.held_percent == 100
    assert told.of("REQ-4") == Kept("REQ-4", 6_000, 7_000, took["REQ-4"])
    assert (await sdlc_reader.rates()).durations == told


async def test_status_and_report_say_how_long_it_takes_yet_and_what_adds_to_it(
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    database_url: str,
    settings: Settings,
) -> None:
    for nth in range(5):
        await delivered(sdlc_store, f"REQ-{nth}", research=10 * (nth + 1))
    await merged_at_once(database_url)
    asked = await begin(sdlc_store, "REQ-ASKED")
    await asked.run(RESEARCH)
    await asked.block(await asked.fail(CRITIQUE))
    running = await begin(sdlc_store, "REQ-RUNNING")
    await running.run(RESEARCH)

    rest = await rest_of(settings, sdlc_reader, await sdlc_reader.requirement("REQ-RUNNING"))
    assert rest is not None
    of_stage = {each.stage: each for each in rest.estimate.stages}
    assert RESEARCH not in of_stage
    assert (of_stage[CRITIQUE].p50, of_stage[CRITIQUE].source) == (1_800, Source.PIPELINE)
    assert (of_stage[FRONTEND].p80, of_stage[FRONTEND].source) == (1_800, Source.FILE)
    # 30 and, beside jen's 30 by the file, 10 and the build; 30 of the tester; then 34 of repairs
    assert rest.estimate.p80 == 60 * (30 + 30 + 30 + 34)
    assert not rest.adds
    assert "Expected end: " in rest.line()
    assert "Frontend Implementation, Backend QA, which have fewer than 5 runs" in rest.line()

    waits = await rest_of(settings, sdlc_reader, await sdlc_reader.requirement("REQ-ASKED"))
    assert waits is not None
    assert "a human's answer, asked since " in waits.line()
    assert waits.document()["p50_at"] is None
    ended = await read_report(settings, "REQ-4", with_trace=False)
    assert (ended.rest, ended.kept is not None) == (None, True)
    assert "At its start 1h40m (p50) and 1h56m (p80)" in " ".join(ended.sentences())
    assert await rest_of(settings, sdlc_reader, await sdlc_reader.requirement("REQ-4")) is None
