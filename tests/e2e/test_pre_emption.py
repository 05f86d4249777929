"""`start --preempt`: agents are suspended for a P0, give way, and resume as the same processes."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.model import PRE_EMPTION, RequirementState, RunEnd
from tests.eventually import eventually
from tests.fixtures_runs import is_running
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, FOUR, PAIR, SOLO, repaired
from tests.pre_emption import Emergency, is_moving
from tests.suspended_runs import state

SATURATED = {"MAX_PARALLEL_STAGES": "2"}


@pytest.fixture
def emergency(orchestra: Orchestra, tmp_path: Path) -> Emergency:
    return Emergency(orchestra, tmp_path)


async def test_agents_are_suspended_give_way_and_resume_as_the_same_processes(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """Also when the worker is killed meanwhile: both slots of the host are the P0's."""
    puppets = orchestra.puppets
    puppets.hold("roy", "jen", "cynthia")
    await orchestra.worker.start(**SATURATED)
    handle = await orchestra.start(PAIR)
    lower = await emergency.until_living("roy", "jen")
    await orchestra.until_shown(BACKEND, lambda shown: shown.starts == 1)

    emergency.begin("--preempt")
    (urgent,) = await emergency.until_living("cynthia")
    await emergency.until_suspended(*lower)
    assert is_moving(urgent)
    view = await orchestra.until_state(RequirementState.HELD)
    assert [(hold.boundary, hold.held_by) for hold in view.holds] == [
        (PRE_EMPTION, (emergency.number,))
    ]
    orchestra.worker.kill()
    await orchestra.worker.start(**SATURATED)
    assert emergency.pids("cynthia") == [urgent]
    await emergency.until_suspended(*lower)

    puppets.release("cynthia")
    assert emergency.run("watch", emergency.number).code == 0
    await emergency.until_moving(*lower)
    assert emergency.pids("roy", "jen") == lower
    puppets.release("roy", "jen")
    assert (await handle.result()).state is RequirementState.DELIVERED

    assert (puppets.starts("roy"), puppets.starts("jen"), puppets.starts("cynthia")) == (1, 1, 1)
    told = [str(event["eventType"]) for event in await orchestra.events()]
    assert (told.count("workflow.held"), told.count("workflow.resumed")) == (1, 1)
    assert not [kind for kind in told if kind in ("stage.failed", "stage.timeout")]
    assert (await orchestra.view()).holds == ()


async def test_blocked_p0_suspends_them_until_it_is_cancelled(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    """One of them is killed meanwhile: it alone is run again, as pre-empted and not as failed."""
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    puppets.task("cynthia", exit_code=1)
    await orchestra.worker.start(**SATURATED)
    handle = await orchestra.start(PAIR)
    (roy,) = await emergency.until_living("roy")
    (jen,) = await emergency.until_living("jen")
    emergency.begin("--preempt")
    await orchestra.until_state(RequirementState.BLOCKED, emergency.number)
    await emergency.until_suspended(roy, jen)

    os.kill(roy, signal.SIGKILL)
    await eventually(lambda: not is_running(roy), "roy is gone")
    await emergency.until_suspended(jen)
    assert emergency.cli("watch", emergency.number).code == 4
    assert (state(jen), puppets.starts("roy")) == ("T", 1)
    emergency.run("cancel", emergency.number)
    await emergency.until_moving(jen)
    await eventually(lambda: puppets.starts("roy") == 2, "roy again")
    puppets.release("roy", "jen")
    assert (await handle.result()).state is RequirementState.DELIVERED

    assert puppets.starts("jen") == 1
    ends = {(run.stage, run.attempt): run.end for run in await orchestra.reader.runs(handle.id)}
    assert ends[BACKEND, 1] == RunEnd.LOST
    (failed,) = [e for e in await orchestra.events() if e["eventType"] == "stage.failed"]
    assert (failed["action"], "while it was suspended" in failed["error"]) == ("RETRY", True)


async def test_requirement_that_is_suspended_can_be_cancelled(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen", "cynthia")
    await orchestra.worker.start(**SATURATED)
    await orchestra.start(PAIR)
    lower = await emergency.until_living("roy", "jen")
    emergency.begin("--preempt")
    await emergency.until_living("cynthia")
    await emergency.until_suspended(*lower)

    emergency.run("cancel", orchestra.number)
    view = await orchestra.until_state(RequirementState.CANCELLED)

    assert not [pid for pid in lower if is_running(pid)]
    assert view.holds == ()
    assert list(orchestra.home.glob(f"suspended/{orchestra.number}/*")) == []
    puppets.release("cynthia")
    assert emergency.run("watch", emergency.number).code == 0


async def test_fix_that_runs_is_suspended(orchestra: Orchestra, emergency: Emergency) -> None:
    puppets = orchestra.puppets
    puppets.task("billy", notice={"test_result": "FAIL", "failures": ["wrong"]})
    puppets.hold("billy", "cynthia")
    await orchestra.worker.start(**SATURATED)
    handle = await orchestra.start(repaired(FOUR))
    await emergency.until_living("billy")
    puppets.hold("roy")
    puppets.release("billy")
    await eventually(lambda: puppets.starts("roy", f"{handle.id}-FIX-1") == 1, "the fix")
    (fixer,) = emergency.pids("roy")

    emergency.begin("--preempt")
    await emergency.until_suspended(fixer)
    puppets.task("billy")
    puppets.release("cynthia")
    await emergency.until_moving(fixer)
    puppets.release("roy")

    assert (await handle.result()).state is RequirementState.DELIVERED
    assert puppets.starts("roy") == 2


async def test_what_the_p0_comes_to_wait_for_continues_until_that_is_over(
    orchestra: Orchestra, emergency: Emergency
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    puppets.task("cynthia", exit_code=1)
    await orchestra.worker.start(MAX_PARALLEL_STAGES="4")
    handle = await orchestra.start(SOLO)
    other = await orchestra.start(PAIR, number=f"{orchestra.number}-B")
    await eventually(lambda: len(orchestra.puppets.living()) == 3, "three agents")
    ours = [sign.pid for sign in puppets.living() if sign.number == handle.id]
    theirs = [sign.pid for sign in puppets.living() if sign.number == other.id]
    emergency.begin("--preempt")
    await emergency.until_suspended(*ours, *theirs)

    emergency.run("block", emergency.number, "--by", handle.id)
    await emergency.until_moving(*ours)
    assert {state(pid) for pid in theirs} == {"T"}
    emergency.run("unblock", emergency.number, "--by", handle.id)
    await emergency.until_suspended(*ours)

    await orchestra.until_state(RequirementState.BLOCKED, emergency.number)
    emergency.run("cancel", emergency.number)
    await emergency.until_moving(*ours, *theirs)
    puppets.release("roy", "jen")
    for each in (handle, other):
        assert (await each.result()).state is RequirementState.DELIVERED
    assert (puppets.starts("roy"), puppets.starts("jen")) == (2, 1)


def test_only_a_p0_pre_empts(emergency: Emergency) -> None:
    refused = emergency.cli("start", "REQ-1", "--title", "A title", "--priority", "P1", "--preempt")
    assert (refused.code, "only a P0 pre-empts" in refused.err) == (2, True)


async def test_line_of_a_backlog_may_pre_empt(
    orchestra: Orchestra, emergency: Emergency, tmp_path: Path
) -> None:
    orchestra.puppets.hold("roy", "jen", "cynthia")
    await orchestra.worker.start(**SATURATED)
    await orchestra.start(PAIR)
    lower = await emergency.until_living("roy", "jen")
    backlog = tmp_path / "backlog.jsonl"
    line = f'{{"req": "{emergency.number}", "title": "It burns", "priority": "P%d", "preempt": true'
    plan = f', "pipeline": "{tmp_path / "urgent.toml"}"}}'
    backlog.write_text(line % 1 + plan)
    refused = emergency.cli("start", "--batch", str(backlog))
    assert (refused.code, "only a P0 pre-empts" in refused.err) == (2, True)

    backlog.write_text(line % 0 + plan)
    emergency.run("start", "--batch", str(backlog))
    await emergency.until_living("cynthia")
    await emergency.until_suspended(*lower)
    orchestra.puppets.release_all()
    assert emergency.run("watch", orchestra.number).code == 0
