"""Cancelling ends every process, records and publishes it, and leaves the user's project alone."""

import time

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import is_cancelled_exception

from pipeline.model import RequirementState, RunEnd, StageState
from tests.eventually import eventually, eventually_async
from tests.fixtures_runs import is_running
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import BACKEND, FRONTEND, PAIR, SOLO


@pytest.fixture
async def working(orchestra: Orchestra) -> Handle:
    """A requirement whose roy and jen have left something and keep working."""
    orchestra.puppets.hold("roy", "jen")
    orchestra.puppets.task("roy", files={"backend/roy.txt": "half\n"})
    orchestra.puppets.task("jen", files={"frontend/jen.txt": "half\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await until_edited(orchestra)
    return handle


async def until_edited(orchestra: Orchestra) -> None:
    """Wait until both agents have written their files."""
    clones = orchestra.home / "clones" / orchestra.number
    edited = [("backend-implementation-1", "roy.txt"), ("frontend-implementation-1", "jen.txt")]

    def is_edited(key: str, name: str) -> bool:
        found = clones.glob(f"stage-{key}/*/{name}")
        return [file.read_text() for file in found] == ["half\n"]

    await eventually(lambda: all(is_edited(*each) for each in edited), "the work of roy and jen")


async def test_everything_of_a_cancelled_requirement_has_ended(
    orchestra: Orchestra, working: Handle
) -> None:
    before = orchestra.project.state()
    await working.cancel()

    await assert_cancelled(orchestra, working)
    assert orchestra.project.state() == before


async def test_a_requirement_is_cancelled_while_no_worker_lives(
    orchestra: Orchestra, working: Handle
) -> None:
    before = orchestra.project.state()
    orchestra.worker.kill()
    await working.cancel()
    assert len(orchestra.puppets.living()) == 2
    await orchestra.worker.start()

    await assert_cancelled(orchestra, working)
    assert orchestra.project.state() == before


async def test_a_cancelled_build_is_ended(orchestra: Orchestra) -> None:
    orchestra.puppets.hold("backend")
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: len(orchestra.puppets.living("backend")) == 1, "the build")

    await handle.cancel()

    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert orchestra.puppets.living("backend") == []
    assert orchestra.clones() == []


async def test_requirement_whose_repository_is_broken_is_cancelled_within_a_minute(
    orchestra: Orchestra,
) -> None:
    """Nothing can be merged, kept or removed; what is left is cleaned up when git works again."""
    orchestra.puppets.hold("roy")
    orchestra.puppets.task("roy", files={"backend/roy.txt": "half\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: bool(orchestra.puppets.living("roy")), "roy")
    config = orchestra.project.root / ".git" / "config"
    whole = config.read_text()
    config.write_text("[broken")
    orchestra.puppets.release("roy")

    async def is_shown() -> bool:
        view = await orchestra.view()
        return bool(view.retries or view.escalation or view.state.is_final)

    await eventually_async(is_shown, "why it does not continue")
    began = time.monotonic()
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert time.monotonic() - began < 60
    view = await orchestra.view()
    assert (view.state, view.retries) == (RequirementState.CANCELLED, ())
    assert orchestra.puppets.living() == []
    config.write_text(whole)
    orchestra.worker.stop()
    await orchestra.worker.start()

    async def is_clean() -> bool:
        return not await orchestra.reader.leftovers()

    await eventually_async(is_clean, "everything is cleaned up")
    assert orchestra.clones() == []


async def test_a_requirement_is_cancelled_before_a_host_took_it(orchestra: Orchestra) -> None:
    handle = await orchestra.start(PAIR)
    await handle.cancel()
    await orchestra.worker.start()

    with pytest.raises(WorkflowFailureError):
        await handle.result()

    view = await orchestra.until_state(RequirementState.CANCELLED)
    assert {stage.state for stage in view.stages} == {StageState.WAITING}
    assert orchestra.puppets.signs("start") == []
    assert orchestra.project.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    types = [event["eventType"] for event in await orchestra.events()]
    assert types.count("workflow.cancelled") == 1


async def test_a_blocked_requirement_is_cancelled(orchestra: Orchestra) -> None:
    orchestra.puppets.task("roy", notice={"status": "FAILED"})
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await orchestra.until_state(RequirementState.BLOCKED)

    await handle.cancel()

    with pytest.raises(WorkflowFailureError):
        await handle.result()
    view = await orchestra.until_state(RequirementState.CANCELLED)
    assert (view.waiting_for, orchestra.clones()) == ("", [])


async def assert_cancelled(orchestra: Orchestra, handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert is_cancelled_exception(failure.value.cause)
    assert orchestra.puppets.living() == []
    supervisors = [run.identity()["supervisor"] for run in orchestra.runs()]
    await eventually(lambda: not any(map(is_running, supervisors)), "the end of the supervisors")
    await assert_recorded(orchestra)
    store = orchestra.store
    assert orchestra.clones() == []
    kept = f"refs/agog/{orchestra.number}/kept"
    assert store.text(f"{kept}/backend-implementation-1", "backend/roy.txt") == "half"
    assert store.text(f"{kept}/frontend-implementation-1", "frontend/jen.txt") == "half"


async def assert_recorded(orchestra: Orchestra) -> None:
    view = await orchestra.until_state(RequirementState.CANCELLED)
    assert {stage.stage: stage.starts for stage in view.stages} == {BACKEND: 1, FRONTEND: 1}
    runs = await orchestra.reader.runs(orchestra.number)
    assert [(run.end, bool(run.seconds)) for run in runs] == [(RunEnd.CANCELLED, True)] * 2
    assert StageState.RUNNING not in {stage.state for stage in view.stages}
    types = [event["eventType"] for event in await orchestra.events()]
    assert types.count("workflow.cancelled") == 1
    assert types.count("stage.started") == 2
