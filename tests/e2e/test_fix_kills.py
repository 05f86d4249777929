"""A worker killed while failures are repaired: the records are those of an undisturbed run."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from pipeline.model import RequirementState
from tests.eventually import eventually
from tests.orchestra import Handle, Orchestra
from tests.orchestra_plans import SOLO, repaired

PLAN = repaired(SOLO)
BROKEN = {"backend/roy.txt": "broken\n"}
REPAIRED = {"backend/roy.txt": "repaired\n"}

COMMIT = re.compile(r"\b[0-9a-f]{40}\b")

Moment = Callable[[Orchestra, str], Awaitable[None]]


async def in_the_fix(orchestra: Orchestra, number: str) -> None:
    """The agent of the fix is at work."""
    await kill(orchestra)
    orchestra.puppets.release("roy")


async def in_the_gate(orchestra: Orchestra, number: str) -> None:
    """The fix is merged, and its build runs."""
    puppets = orchestra.puppets
    puppets.hold("backend")
    puppets.release("roy")
    await eventually(lambda: puppets.starts("backend", number) == 2, "the build after the fix")
    await kill(orchestra)
    puppets.release("backend")


async def between_fix_and_resume(orchestra: Orchestra, number: str) -> None:
    """The build has ended, and the requirement does not yet know."""
    puppets = orchestra.puppets
    puppets.release("roy")
    await eventually(lambda: puppets.ends("backend", number) == 2, "the build after the fix")
    await kill(orchestra)


async def never(orchestra: Orchestra, number: str) -> None:
    orchestra.puppets.release("roy")


async def kill(orchestra: Orchestra) -> None:
    orchestra.worker.kill()
    await orchestra.worker.start()


async def repaired_run(orchestra: Orchestra, number: str, moment: Moment) -> Handle:
    """roy breaks his build; his fix is held until the moment has passed."""
    puppets = orchestra.puppets
    puppets.hold("roy", "backend")
    puppets.task("roy", files=BROKEN)
    puppets.task("backend", exit_code=1)
    handle = await orchestra.start(PLAN, number=number)
    await eventually(lambda: puppets.starts("roy", number) == 1, "roy")
    puppets.release("roy")
    await eventually(lambda: puppets.starts("backend", number) == 1, "the build")
    puppets.hold("roy")
    puppets.task("roy", files=REPAIRED)
    puppets.release("backend")
    await eventually(lambda: puppets.starts("roy", f"{number}-FIX-1") == 1, "the fix")
    puppets.task("backend")
    await moment(orchestra, number)
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED
    return handle


async def commands(handle: Handle) -> Sequence[str]:
    """What the workflow has asked for, in order."""
    asked = []
    for event in (await handle.fetch_history()).events:
        activity = event.activity_task_scheduled_event_attributes
        child = event.start_child_workflow_execution_initiated_event_attributes
        if name := activity.activity_type.name or child.workflow_type.name:
            asked.append(name)
    return asked


TABLES = {
    "phase_history": "number, stage, source, target, who, why",
    "runs": 'number, stage, agent, attempt, state, starts, "end", verdict, summary, error',
    "gates": "number, gate, stage, verdict",
    "failures": "number, round, seq, stage, kind, gate, owners, resolved_at IS NULL",
    "blockers": "number, round, blocked_by, reason, resolved_at IS NULL",
    "fixes": "number, root, round, depth, stage, gate",
    "events": "number, type, published_at IS NULL",
    "notes": "number, answer, round, kind, stages, who, why",
    "requirements": "number, state, parent, assignee, round, reason, waiting_for",
}


async def rows(orchestra: Orchestra, number: str) -> Mapping[str, Sequence[object]]:
    """Every row of the requirement and its fixes, without what names one or the other."""
    found = {}
    for table, columns in TABLES.items():
        lines = await orchestra.query(
            f"SELECT {columns} FROM {table} WHERE number LIKE %s",
            f"{number}%",
        )
        found[table] = sorted(
            COMMIT.sub("commit", str(line).replace(number, "REQ")) for line in lines
        )
    return found


@pytest.mark.parametrize("moment", [in_the_fix, in_the_gate, between_fix_and_resume])
async def test_kill_leaves_the_records_of_an_undisturbed_run(
    orchestra: Orchestra, moment: Moment
) -> None:
    disturbed, undisturbed = f"{orchestra.number}-A", f"{orchestra.number}-B"
    await orchestra.worker.start()

    one = await repaired_run(orchestra, disturbed, moment)
    other = await repaired_run(orchestra, undisturbed, never)

    for number in (disturbed, f"{disturbed}-FIX-1"):
        assert orchestra.puppets.starts("roy", number) == 1
    assert await commands(one) == await commands(other)
    assert await rows(orchestra, disturbed) == await rows(orchestra, undisturbed)


async def test_worker_killed_while_a_human_is_asked_still_takes_the_answer(
    orchestra: Orchestra,
) -> None:
    orchestra.puppets.task("roy", notice={"status": "BLOCKED", "summary": "which database?"})
    await orchestra.worker.start()
    handle = await orchestra.start(PLAN)
    await orchestra.until_state(RequirementState.BLOCKED)

    orchestra.worker.kill()
    orchestra.puppets.task("roy")
    await orchestra.worker.start()
    await orchestra.retry(handle, "Backend Implementation")

    assert (await handle.result()).state is RequirementState.DELIVERED
    types = [event["eventType"] for event in await orchestra.events()]
    assert types.count("workflow.escalated") == types.count("workflow.resumed") == 1
