"""A worker killed at its worst moments, and a supervisor killed under its agent."""

import os
import signal

import pytest

from pipeline.model import RequirementState
from tests.eventually import eventually
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, PAIR, SOLO


async def test_a_build_cut_short_is_built_again(orchestra: Orchestra) -> None:
    puppets = orchestra.puppets
    puppets.hold("backend")
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: puppets.starts("backend") == 1, "the build")

    orchestra.worker.kill()
    await orchestra.worker.start()
    await eventually(lambda: puppets.starts("backend") == 2, "the build again")

    assert len(puppets.living("backend")) == 1
    puppets.release("backend")
    report = await handle.result()
    assert report.state is RequirementState.DELIVERED
    assert (puppets.starts("roy"), puppets.starts("backend")) == (1, 2)
    gates = [gate for gate in (await orchestra.view()).gates if gate.gate == "build backend"]
    assert [(gate.verdict, gate.commit) for gate in gates] == [("green", report.commit)]


async def test_a_notice_given_while_the_worker_dies_counts(orchestra: Orchestra) -> None:
    """Killed at the very end of an agent: its closing and merge may be half done."""
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    puppets.task("jen", files={"frontend/jen.txt": "jen\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(puppets.living()) == 2, "roy beside jen")

    puppets.release("roy", "jen")
    await eventually(lambda: puppets.ends("roy") + puppets.ends("jen") > 0, "a notice")
    orchestra.worker.kill()
    await orchestra.worker.start()
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert (puppets.starts("roy"), puppets.starts("jen")) == (1, 1)
    merged = orchestra.project.git("log", "--format=%s", "--merges", "main").splitlines()
    assert len([line for line in merged if line.startswith("Merge Backend")]) <= 1
    assert {"backend/roy.txt", "frontend/jen.txt"} <= set(orchestra.project.files("main"))
    events = await orchestra.events()
    assert len({event["eventId"] for event in events}) == len(events)


async def test_a_merge_cut_short_is_made_once(orchestra: Orchestra) -> None:
    puppets, number = orchestra.puppets, orchestra.number
    puppets.hold("roy")
    puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: len(puppets.living("roy")) == 1, "roy")
    git_lock = orchestra.store.root / "refs/heads/agog" / number / "main.lock"
    git_lock.touch()

    puppets.release("roy")
    merging = orchestra.home / "locks" / f"merge.{number}.lock"
    await eventually(merging.exists, "a merge that waits for git's lock")
    orchestra.worker.kill()
    git_lock.unlink()
    await orchestra.worker.start()

    assert (await handle.result()).state is RequirementState.DELIVERED
    assert puppets.starts("roy") == 1
    assert orchestra.project.git("log", "--format=%s", "main").splitlines() == [
        f"{number} {BACKEND}: roy is done",
        "The greeter as it stands",
    ]


async def test_a_stopped_worker_leaves_its_agents_alone(orchestra: Orchestra) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(puppets.living()) == 2, "roy beside jen")
    before = puppets.living()

    assert orchestra.worker.stop() == 0

    assert puppets.living() == before
    await orchestra.worker.start()
    puppets.release("roy", "jen")
    assert (await handle.result()).state is RequirementState.DELIVERED
    assert puppets.signs("start", "roy") + puppets.signs("start", "jen") == sorted(
        before, key=lambda sign: sign.name, reverse=True
    )


async def test_a_killed_supervisor_costs_its_agent_but_no_try(orchestra: Orchestra) -> None:
    """SOLO allows no retry: what follows is no second try but a second attempt."""
    puppets = orchestra.puppets
    puppets.hold("roy")
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: len(puppets.living("roy")) == 1, "roy")
    run = orchestra.run("backend-implementation-1")
    (first,) = puppets.living("roy")

    os.kill(run.identity()["supervisor"], signal.SIGKILL)
    await eventually(lambda: puppets.starts("roy") == 2, "roy again")

    assert [sign.attempt for sign in puppets.living("roy")] == ["2"]
    assert first not in puppets.living("roy")
    puppets.release("roy")
    assert (await handle.result()).state is RequirementState.DELIVERED
    stage = await orchestra.stage(BACKEND)
    assert (stage.attempt, stage.starts) == (2, 2)
    ends = [(run.attempt, run.end) for run in await orchestra.reader.runs(orchestra.number)]
    assert ends == [(1, "lost"), (2, "exited")]
    types = [event["eventType"] for event in await orchestra.events()]
    assert types.count("stage.started") == 2
    assert types.count("stage.completed") == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_kills_start_no_agent_twice(orchestra: Orchestra) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await eventually(lambda: len(puppets.living()) == 2, "roy beside jen")

    for kill in range(20):
        orchestra.worker.kill()
        before = await orchestra.attempts(handle)
        await orchestra.worker.start()
        if kill % 5 == 0:  # the others come before it has found its agents
            await orchestra.until_taken_over(handle, 2, before)

    assert len(puppets.living()) == 2
    puppets.release("roy", "jen")
    assert (await handle.result()).state is RequirementState.DELIVERED
    assert (puppets.starts("roy"), puppets.starts("jen")) == (1, 1)
