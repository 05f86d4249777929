"""Limits and logins of the real programs: what they say holds their account, and fails nobody."""

import time

import pytest

from cli.running import ExitCode
from pipeline.model import RequirementState
from tests.agents.scenarios import anthropic, limited_until
from tests.agents.stand_ins import Turn, stand_in
from tests.agents.test_real_teams import equip, work
from tests.e2e.conftest import Cli
from tests.eventually import eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import FIVE, PAIR, SOLO

pytestmark = pytest.mark.agents

WINDOW = 40
"""Seconds from the first agent that meets the limit to its reset: the other has met it by then."""


async def test_usage_limit_is_waited_for_until_the_reset_that_the_program_names(
    orchestra: Orchestra,
) -> None:
    early: list[float] = []

    def answers(n: int, prompt: str) -> Turn:
        now = time.time()
        if not early or now < reset_after(early[0]):
            early.append(now)
            return limited_until(reset_after(early[0]))
        return work(n, prompt)

    with stand_in(answers) as api:
        given = equip(orchestra, api, {})
        del given["ANTHROPIC_API_KEY"]
        await orchestra.worker.start(**given, CLAUDE_CODE_OAUTH_TOKEN="token")
        handle = await orchestra.start(PAIR)

        resets: list[float] = []

        async def is_held() -> bool:
            resets[:] = [h.until.timestamp() for h in (await orchestra.view()).holds if h.until]
            return bool(resets)

        await eventually_async(is_held, "the account holds it")
        cli = Cli(orchestra.environment, orchestra.home.parent)
        listed, status = cli("accounts"), cli("status", orchestra.number)
        waiting = cli("list", "--waiting")
        report = await handle.result()
    view = await orchestra.view()

    assert report.state is RequirementState.DELIVERED, explained(view)
    assert view.fixes == ()
    assert resets[0] == reset_after(early[0])
    for said in (status.out, waiting.out, listed.out):
        assert "hit your session limit" in " ".join(said.split()), said
    assert len(early) <= 2  # both began before one had met it
    # Each met the limit once at most, and one of them went first afterwards.
    assert sum(stage.attempt for stage in view.stages) == 2 + len(early)


def reset_after(first: float) -> int:
    return int(first) + WINDOW


async def test_refused_login_is_asked_about_once_and_continues_when_it_is_renewed(
    orchestra: Orchestra,
) -> None:
    refused = anthropic(401, "authentication_error", "OAuth token has expired")
    is_renewed = False

    def answers(n: int, prompt: str) -> Turn:
        return work(n, prompt) if is_renewed else refused

    with stand_in(answers) as api:
        await orchestra.worker.start(**equip(orchestra, api, {}))
        handle = await orchestra.start(PAIR)

        async def are_held() -> bool:
            return len((await orchestra.view()).holds) == 2

        await eventually_async(are_held, "both stages are held")
        cli = Cli(orchestra.environment, orchestra.home.parent)
        assert "accounts resume claude-code" in cli("doctor").out
        assert cli("watch", orchestra.number).code == ExitCode.NEEDS_HUMAN
        is_renewed = True
        resumed = cli("accounts", "resume", "claude-code")
        report = await handle.result()
    view = await orchestra.view()

    assert "is tried now" in resumed.out, resumed.err
    assert report.state is RequirementState.DELIVERED, explained(view)
    assert view.fixes == ()


@pytest.mark.slow  # eight programs and a limit that lasts
async def test_a_limit_holds_eight_runs_of_three_requirements_and_fails_none(
    orchestra: Orchestra,
) -> None:
    early: list[float] = []

    def answers(n: int, prompt: str) -> Turn:
        now = time.time()
        if not early or now < reset_after(early[0]):
            early.append(now)
            return limited_until(reset_after(early[0]))
        return work(n, prompt)

    numbers = [orchestra.number, *(f"{orchestra.number}-{nth}" for nth in (2, 3))]
    with stand_in(answers) as api:
        given = equip(orchestra, api, {})
        del given["ANTHROPIC_API_KEY"]  # with a key the program would ask twice more by itself
        await orchestra.worker.start(**given, CLAUDE_CODE_OAUTH_TOKEN="token")
        handles = [await orchestra.start(SOLO)]

        async def are_held() -> bool:
            views = [await orchestra.view(number) for number in numbers[: len(handles)]]
            return all(view.holds for view in views)

        await eventually_async(are_held, "the first one is held")
        for number, plan in zip(numbers[1:], (FIVE, PAIR), strict=True):
            handles.append(await orchestra.start(plan, number=number))
        await eventually_async(are_held, "all are held")
        told = len(early)
        reports = [await handle.result() for handle in handles]
    views = [await orchestra.view(number) for number in numbers]

    assert [report.state for report in reports] == [RequirementState.DELIVERED] * 3
    assert sum(len(view.stages) for view in views) == 8
    assert [view.fixes for view in views] == [()] * 3
    assert not any([await orchestra.reader.failures(number) for number in numbers])
    assert (told, len(early)) == (1, 1)
