"""Clones that have outlived their requirement."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.care.orphans import EndedClones
from adapters.git import GitWorkspaces
from pipeline.model import StageRequest
from tests.care import KnownRequirements, a_run
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write


@pytest.fixture
async def at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def clone(workspaces: GitWorkspaces, at_work: StageRequest) -> Path:
    return Path(await workspaces.prepare(at_work))


async def test_clones_of_an_ended_requirement_are_removed_and_its_work_is_kept(
    workspaces: GitWorkspaces, clone: Path, state_home: Path, store: GitProject
) -> None:
    write(clone, {"work": "paid for"})
    known = KnownRequirements()
    care = EndedClones(state_home, known, workspaces)
    assert await care.look() == {}
    known.end(NUMBER)

    assert await care.look() == {NUMBER: "its requirement has ended"}
    await care.end(NUMBER)

    assert not clone.parent.exists()
    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert store.text(kept, "work") == "paid for"
    assert await care.look() == {}


async def test_clones_with_a_run_without_an_end_or_just_ended_stay(
    workspaces: GitWorkspaces, clone: Path, state_home: Path
) -> None:
    known = KnownRequirements()
    care = EndedClones(state_home, known, workspaces)
    known.end(NUMBER, timedelta(minutes=9))
    looks = [await care.look()]
    known.end(NUMBER)
    a_run(state_home, f"{NUMBER}/wf-1/Research/1", ended=False)
    looks.append(await care.look())

    said = await care.end(NUMBER)

    assert looks == [{}, {}]
    assert "its clones stay" in said
    assert exists(clone)
