"""Requirements whose real programs were cut off: what was done is neither lost nor paid again."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from adapters.local_stack.child import recorded_process
from adapters.runs.directory import RUNS, RunDirectory
from pipeline.model import RequirementState, StageState
from pipeline.team import TEAM
from tests.agents.scenarios import FROM_NPM, environment, left_of, limited_until, notice_of
from tests.agents.stand_ins import Answer, Fault, Hang, StandIn, Turn, Write, stand_in
from tests.agents.test_real_teams import equip, program, told
from tests.e2e.conftest import Cli, plan_of, until
from tests.e2e.up_stack import SERVERS, Up
from tests.eventually import eventually, eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, PAIR, SOLO

pytestmark = pytest.mark.agents

WINDOW = 25
"""Seconds from the first agent that meets the limit to its reset: the other has met it by then."""


def working(cut: Callable[[], Fault | Hang | None]) -> Callable[[int, str], Turn]:
    """Each agent writes a file, is cut off as long as `cut` says so, and answers green."""

    def answers(n: int, prompt: str) -> Turn:
        number, agent = told(prompt)
        if n == 0:
            return Write(f"{agent}-was-here.md", f"{agent} was here\n")
        return cut() or Answer(notice_of(agent, number))

    return answers


def kill_everything(orchestra: Orchestra) -> None:
    """As a power cut does it: worker, supervisors, programs and their commands."""
    orchestra.worker.kill()
    for run in orchestra.runs():
        for pid in (run.last.identity()["supervisor"], *left_of(run.path)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def conversation(api: StandIn) -> str:
    """What the program has told its API last: the whole session."""
    return json.dumps(api.requests[-1].body)


@pytest.mark.parametrize("kind", FROM_NPM)
async def test_a_session_is_resumed_after_its_host_was_killed(
    orchestra: Orchestra, kind: str
) -> None:
    is_up = False
    with stand_in(working(lambda: None if is_up else Hang())) as api:
        given = equip(orchestra, api, {"roy": kind})
        await orchestra.worker.start(**given)
        handle = await orchestra.start(SOLO)
        await eventually(lambda: len(api.requests) == 2, "the answer after its first tool")
        before = await orchestra.until_shown(BACKEND, lambda shown: bool(shown.session))
        kill_everything(orchestra)
        is_up = True
        await orchestra.worker.start(**given)
        report = await handle.result()
    stage = await orchestra.stage(BACKEND)

    assert report.state is RequirementState.DELIVERED, explained(await orchestra.view())
    assert (stage.attempt, stage.starts, stage.resumes) == (1, 1, 1)
    assert stage.session == before.session
    # What it had written before, and had not committed, is delivered; nothing was done twice.
    assert orchestra.project.text("main", "roy-was-here.md") == "roy was here"
    assert len(api.requests) == 3
    for said in ("You are roy", "roy-was-here.md", "Go on where you stopped"):
        assert said in conversation(api)
    resumed = [e for e in await orchestra.events() if e["eventType"] == "stage.resumed"]
    assert [event["resumes"] for event in resumed] == [1]
    cli = Cli(orchestra.environment, orchestra.home.parent)
    assert json.loads(cli("status", orchestra.number, "--json").out)["stages"][0]["resumes"] == 1
    log = cli("logs", orchestra.number, "roy")
    assert log.out.count("» session") == 2, log.out


async def test_a_limit_in_the_middle_of_the_work_is_waited_for_in_the_session(
    orchestra: Orchestra,
) -> None:
    resets: list[int] = []

    def limit() -> Fault | None:
        resets.append(int(time.time()) + WINDOW)
        return limited_until(resets[0]) if time.time() < resets[0] else None

    with stand_in(working(limit)) as api:
        given = equip(orchestra, api, {})
        del given["ANTHROPIC_API_KEY"]
        given["CLAUDE_CODE_OAUTH_TOKEN"] = "token"
        await orchestra.worker.start(**given)
        handle = await orchestra.start(PAIR)

        async def are_held() -> bool:
            return {stage.state for stage in (await orchestra.view()).stages} == {StageState.HELD}

        await eventually_async(are_held, "both are held")
        orchestra.worker.kill()  # nothing of it hangs on the worker that has seen it
        await orchestra.worker.start(**given)
        report = await handle.result()
    view = await orchestra.view()

    assert report.state is RequirementState.DELIVERED, explained(view)
    assert view.fixes == ()
    assert [(s.attempt, s.starts, s.resumes) for s in view.stages] == [(1, 1, 1), (1, 1, 1)]
    for name in ("roy", "jen"):
        assert orchestra.project.text("main", f"{name}-was-here.md") == f"{name} was here"
    assert len({stage.session for stage in view.stages}) == len(view.stages)
    # Each has written, met the limit, and answered; what was written is in the conversation.
    assert len(api.requests) == 3 * len(view.stages)
    assert "-was-here.md" in conversation(api)
    assert "could not work for a while" in conversation(api)
    # Every request that was answered took 1,000 tokens, and none is paid twice.
    assert (
        sum(stage.cost.tokens.total for stage in view.stages if stage.cost.tokens)
        == 2 * len(view.stages) * 1050
    )
    assert {stage.agent for stage in view.stages} <= set(TEAM)


def test_whole_tree_of_up_is_killed_and_the_next_up_resumes_the_session(tmp_path: Path) -> None:
    is_up = False
    up = Up(tmp_path / "up")
    up.plan.write_text(plan_of(("Research", "cynthia")))
    with stand_in(working(lambda: None if is_up else Hang())) as api:
        file = up.directory / "agents.toml"
        kind, place = "claude-code", json.dumps(program("claude-code"))
        file.write_text(f'[defaults]\nkind = "{kind}"\nprogram = {place}\n')
        given = {**environment({}, api, up.directory), "AGOG_AGENTS_FILE": str(file)}
        del given["PATH"], given["HOME"]
        given["CLAUDE_CONFIG_DIR"] = str(up.directory / "config-of-claude")
        try:
            first = up.open(**given)
            up.until_worker()
            said = up.cli("start", "REQ-1", "--title", "Cut", "--pipeline", str(up.plan), **given)
            assert said.code == 0, said.err
            until(lambda: len(api.requests) == 2, "the answer after its first tool")
            clone = next(up.home.glob("clones/REQ-1/*"))
            assert (clone / "cynthia-was-here.md").exists()
            end_tree(first.pid, up.home)
            first.communicate()
            is_up = True
            up.open(**given)
            up.until_worker(2)
            watched = up.cli("watch", "REQ-1", **given)
            (stage,) = up.cli("status", "REQ-1", "--json", **given).document["stages"]
        finally:
            up.close()

    assert watched.code == 0, watched.out + watched.err
    assert (stage["attempt"], stage["starts"], stage["resumes"]) == (1, 1, 1)
    assert len(api.requests) == 3
    for said_before in ("You are cynthia", "cynthia-was-here.md", "Go on where you stopped"):
        assert said_before in conversation(api)
    assert up.project.text("main", "cynthia-was-here.md") == "cynthia was here"


def end_tree(pid: int, home: Path) -> None:
    """Kill `up`, its servers and its worker, and every run of that state directory, all at once."""
    tree = psutil.Process(pid)
    processes = [tree, *tree.children(recursive=True)]
    servers = filter(None, (recorded_process(home, name) for name in (*SERVERS, "worker")))
    for server in servers:
        processes += [server, *server.children(recursive=True)]
    for folder in home.glob(f"{RUNS}/*/*/*"):
        run = RunDirectory(folder, "").last
        supervisor = psutil.Process(run.identity()["supervisor"])
        processes += [supervisor, *supervisor.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
