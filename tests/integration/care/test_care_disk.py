"""Room on the disk: what ended requirements left, and nothing else."""

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.care.disk import DiskCare, LeftoverCollector
from adapters.git import GitWorkspaces
from adapters.readiness import MIB
from pipeline.errors import DependencyUnavailable, TransientError
from pipeline.model import Alert, AlertKind
from tests.care import KnownRequirements, a_run
from tests.fixtures_runs import Bench
from tests.fixtures_workspaces import GitProject, stage_request, write

LOW = Alert(AlertKind.DISK_LOW, "disk", "host-1")
LEAST = 10 * MIB


class Disk:
    """A disk of 30 MiB that holds the state directory alone."""

    def __call__(self, home: Path) -> int:
        used = sum(path.lstat().st_size for path in home.rglob("*") if path.is_file())
        return 30 * MIB - used


@pytest.fixture
def requirements() -> KnownRequirements:
    return KnownRequirements()


@pytest.fixture
def collector(
    state_home: Path, requirements: KnownRequirements, workspaces: GitWorkspaces
) -> LeftoverCollector:
    return LeftoverCollector(state_home, requirements, workspaces)


@pytest.fixture
def care(state_home: Path, collector: LeftoverCollector) -> DiskCare:
    return DiskCare(state_home, "host-1", collector, LEAST, Disk())


async def worktree(workspaces: GitWorkspaces, number: str, files: dict[str, str]) -> Path:
    head, _ = await workspaces.open(number)
    path = Path(await workspaces.prepare(stage_request(head, number=number)))
    write(path, files)
    return path


async def test_a_disk_with_room_is_no_alert_and_a_full_one_says_how_much_is_left(
    care: DiskCare, state_home: Path
) -> None:
    assert await care.look() == ()

    a_run(state_home, "REQ-1/wf/Research/1", size=25 * MIB)

    (alert,) = await care.look()
    assert (alert.kind, alert.component) == (AlertKind.DISK_LOW, "disk")
    assert "less than 10 MiB" in alert.detail


async def test_the_oldest_go_first_and_no_more_than_makes_room(
    care: DiskCare, requirements: KnownRequirements, state_home: Path
) -> None:
    runs = {n: a_run(state_home, f"REQ-{n}/wf/Research/1", size=9 * MIB) for n in (1, 2, 3)}
    for number, days in ((1, 2), (2, 9), (3, 5)):
        requirements.end(f"REQ-{number}", timedelta(days=days))

    said = await care.act(LOW)

    # 27 of 30 MiB are used; room is 20 MiB: the two oldest make 21.
    assert [n for n, run in runs.items() if run.path.exists()] == [1]
    assert "Removed 18 MiB" in said
    assert "REQ-2, REQ-3" in said
    assert await care.look() == ()


async def test_open_unknown_and_just_ended_requirements_keep_everything(
    care: DiskCare, requirements: KnownRequirements, workspaces: GitWorkspaces, state_home: Path
) -> None:
    kept = [a_run(state_home, f"REQ-{n}/wf/Research/1", size=9 * MIB).path for n in (1, 2, 3)]
    kept.append(await worktree(workspaces, "REQ-1", {"work": "1"}))
    requirements.end("REQ-2", timedelta(minutes=59))

    with pytest.raises(TransientError, match="Removed 0 MiB"):
        await care.act(LOW)

    assert all(path.exists() for path in kept)


async def test_worktrees_go_and_what_no_ref_held_is_kept(
    collector: LeftoverCollector,
    requirements: KnownRequirements,
    workspaces: GitWorkspaces,
    store: GitProject,
) -> None:
    path = await worktree(workspaces, "REQ-1", {"work": "paid for"})
    requirements.end("REQ-1", timedelta(seconds=1))
    refs = store.git("for-each-ref", "--format=%(refname)").splitlines()

    plan = await collector.plan()
    collected = await collector.collect(plan)

    assert [leftover.path for leftover in plan] == [path.parent]
    assert collected.removed == tuple(plan)
    assert collected.freed > 0
    assert not path.parent.exists()
    kept = "refs/agog/REQ-1/kept/backend-implementation-1"
    assert store.text(kept, "work") == "paid for"
    assert {*refs, kept} <= set(store.git("for-each-ref", "--format=%(refname)").split())


async def test_a_requirement_whose_run_has_no_end_keeps_everything(
    collector: LeftoverCollector,
    requirements: KnownRequirements,
    workspaces: GitWorkspaces,
    state_home: Path,
) -> None:
    path = await worktree(workspaces, "REQ-1", {"work": "1"})
    over = a_run(state_home, "REQ-1/wf/Research/1")
    requirements.end("REQ-1")
    plan = await collector.plan()
    a_run(state_home, "REQ-1/wf/Critique/1", ended=False)  # after the plan was made

    collected = await collector.collect(plan)

    assert collected.removed == ()
    assert len(collected.refused) == 2
    assert path.exists()
    assert over.path.exists()
    assert await collector.plan() == ()


async def test_a_run_that_a_supervisor_holds_stays(
    runs: Bench, requirements: KnownRequirements
) -> None:
    collector = LeftoverCollector(runs.home, requirements, None)
    run = a_run(runs.home, "REQ-1/wf/Research/1")
    requirements.end("REQ-1")

    with run.locked():
        collected = await collector.collect(await collector.plan())

    assert "held by a supervisor" in collected.refused[0]
    assert run.has("exit.json")


async def test_nothing_is_removed_while_the_database_cannot_be_asked(
    care: DiskCare, requirements: KnownRequirements, state_home: Path
) -> None:
    run = a_run(state_home, "REQ-1/wf/Research/1")
    requirements.ends = None

    with pytest.raises(DependencyUnavailable):
        await care.act(LOW)

    assert run.path.exists()


async def test_what_cannot_be_removed_is_told_and_keeps_nothing_else_from_going(
    collector: LeftoverCollector,
    requirements: KnownRequirements,
    workspaces: GitWorkspaces,
    state_home: Path,
) -> None:
    damaged = await worktree(workspaces, "REQ-1", {"work": "1"})
    index = state_home / "indexes/REQ-1" / damaged.name / "index"
    index.write_text("damaged")  # it cannot be kept with this one
    a_run(state_home, "REQ-2/wf/Research/1")
    for number in ("REQ-1", "REQ-2"):
        requirements.end(number)

    collected = await collector.collect(await collector.plan())

    assert [leftover.number for leftover in collected.removed] == ["REQ-2"]
    assert "index" in collected.refused[0]
    assert (damaged / "work").exists()
